"""``sgmf keygen``: make a pair of keys to sign packages with."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from segmaformer.cli.console import print_path, say
from segmaformer.cli.passphrase import read_passphrase
from segmaformer.runtime.package.key_ring import TrustedKey
from segmaformer.runtime.package.store import is_model_name
from segmaformer.runtime.system.extras import require_extra


def day(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check the form of a day; callback of an option."""
    if value is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise click.BadParameter(f"{value!r} is no day such as 2028-12-31")
    return value


@click.command("keygen")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="NAME",
    help="Path of the new files without their endings; its last part is the key's name.",
)
@click.option(
    "--not-after",
    callback=day,
    metavar="DAY",
    help="Last day, such as 2028-12-31 (UTC), on which signatures of the key count.",
)
def command(output: Path, not_after: str | None) -> None:
    """Make a pair of keys: NAME.key, to sign with, and NAME.pub, for those who shall trust it.

    NAME.key is an Ed25519 key in PKCS#8 under a passphrase, which is asked for or taken from
    SGMF_KEY_PASSPHRASE. Only you can read it.
    """
    require_extra("cryptography", extra="sign")
    from segmaformer.runtime.package.signing import write_new_key

    if not is_model_name(output.name):
        raise click.UsageError(
            f"{output.name!r:.80} cannot name a key; expected 1 to 64 letters, digits, '.', '_' "
            "and '-', and none of '.' and '-' first"
        )
    private, public = (output.with_name(output.name + suffix) for suffix in (".key", ".pub"))
    for path in (private, public):
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists; give another name with -o")
    key = TrustedKey(output.name, write_new_key(private, read_passphrase(is_new=True)), not_after)
    with public.open("xb") as stream:
        stream.write(key.to_json())
    say(f"key {key.name}, {key.id}")
    print_path(private)
    print_path(public)
