"""``sgmf trust``: show and change the keys whose signatures are trusted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.commands.keygen import day
from segmaformer.cli.console import print_json, print_path, print_rows, say
from segmaformer.cli.package_parameters import SHOWN_DIGITS
from segmaformer.cli.parameters import EXISTING_FILE, json_option
from segmaformer.runtime.package.key_ring import (
    MAX_KEY_BYTES,
    SYSTEM_RING,
    KeyRing,
    TrustedKey,
    own_ring,
    parse_trusted_key,
)


@click.group("trust")
def command() -> None:
    """Show and change the keys whose signatures of packages you trust.

    Once a key is trusted, only packages that a trusted key signed are opened. Keys lie in
    /etc/segmaformer/trust.d and in segmaformer/trust.d of your XDG configuration folder
    (~/.config); only you and root may be able to write them.
    """


def _parse_releases(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    releases = {}
    for value in values:
        name, equals, number = value.rpartition("=")
        if not (name and equals and number.isdecimal() and int(number) < 2**63):
            raise click.BadParameter(f"{value!r:.80} is not of the form PACKAGE=N")
        releases[name] = int(number)
    return releases


@command.command("add")
@click.argument("file", type=EXISTING_FILE)
@click.option(
    "--not-after",
    callback=day,
    metavar="DAY",
    help="Last day (UTC) on which its signatures count. Default: that of the file.",
)
@click.option("--revoked", is_flag=True, help="Trust it no longer, wherever else it is trusted.")
@click.option(
    "--least-release",
    "releases",
    multiple=True,
    callback=_parse_releases,
    metavar="PACKAGE=N",
    help="Refuse releases of PACKAGE before N; repeat for several.",
)
def _add(file: Path, not_after: str | None, revoked: bool, releases: dict[str, int]) -> None:
    """Trust the key in FILE, the NAME.pub of its maker.

    Compare the id that is shown with the one that its maker tells you. Adding a key again replaces
    what was known of it.
    """
    with file.open("rb") as stream:
        key = parse_trusted_key(stream.read(MAX_KEY_BYTES + 1), str(file))
    key = dataclasses.replace(
        key,
        not_after=not_after or key.not_after,
        revoked=revoked or key.revoked,
        least_releases={**key.least_releases, **releases},
    )
    place = KeyRing(own_ring()).add(key)
    say(f"{'revoked' if key.revoked else 'trusted'}: key {key.name}, {key.id}")
    print_path(place)


@command.command("list")
@json_option
def _list(as_json: bool) -> None:
    """List the keys of both key rings."""
    rings = [KeyRing.existing(path) for path in (SYSTEM_RING, own_ring())]
    keys = [(key, ring.path) for ring in rings if ring is not None for key in ring.trusted_keys()]
    if as_json:
        rows = [{**dataclasses.asdict(key), "id": key.id, "ring": str(p)} for key, p in keys]
        print_json({"keys": rows})
    elif keys:
        print_rows([_row(key, path) for key, path in keys])
    else:
        say("you trust no key, so signatures are not checked; add one with: sgmf trust add FILE")


def _row(key: TrustedKey, ring: Path) -> tuple[str, ...]:
    limits: list[Any] = ["revoked"] if key.revoked else []
    limits += [f"until {key.not_after}"] if key.not_after else []
    limits += [f"{name} from {number}" for name, number in key.least_releases.items()]
    return key.name, key.id[:SHOWN_DIGITS], ", ".join(limits) or "-", str(ring)


@command.command("remove")
@click.argument("name")
def _remove(name: str) -> None:
    """Remove the key NAME from your own key ring."""
    KeyRing(own_ring()).remove(name)
    say(f"removed the key {name}")
