"""Arguments and options that several commands have."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from segmaformer.runtime.backends import DEVICES
from segmaformer.runtime.bindings.processors import MOST_THREADS
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.scans.file_kinds import START_BYTES, file_kind
from segmaformer.runtime.scans.volume import check_replacement_value
from segmaformer.runtime.system.memory import MOST_BUDGET_MIB

EXISTING_PATH = click.Path(exists=True, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class _ScanPath(click.Path):
    """Anything of that name; what is no file to read is a refused scan and no wrong usage."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(value))
        if not os.path.lexists(path):
            super().convert(value, param, ctx)
        return path


SCAN_PATH = _ScanPath(exists=True, path_type=Path)


def _parse_finite(
    _context: click.Context, _parameter: click.Parameter, value: float | None
) -> float | None:
    if value is not None:
        try:
            check_replacement_value(value)
        except ValueError:
            raise click.BadParameter(f"{value} is not finite; expected a number") from None
    return value


nan_to_option = click.option(
    "--nan-to",
    type=float,
    callback=_parse_finite,
    metavar="VALUE",
    help="Set voxels that are NaN or infinite to VALUE; without it such scans are refused.",
)


class _PackageFolder(click.Path):
    """The folder of a package; says what a file is that was given for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value)
        if path.is_file():
            with path.open("rb") as file:
                kind = file_kind(file.read(START_BYTES))
            named = f"{kind.name}. {kind.advice}" if kind else "a file"
            hint = f": sgmf export {path}" if kind and "checkpoint" in kind.advice else ""
            self.fail(f"expected the folder of a package, and {path} is {named}{hint}", param, ctx)
        return super().convert(value, param, ctx)


PACKAGE_FOLDER = _PackageFolder(exists=True, file_okay=False, path_type=Path)

device_option = click.option(
    "--device", type=click.Choice(DEVICES), help="Default: what the backend is for."
)
variants_option = click.option(
    "--variant", "variants", multiple=True, help="May be given again; default: all there are."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Threads; default: all processors."
)
memory_budget_option = click.option(
    "--memory-budget",
    type=click.IntRange(1, MOST_BUDGET_MIB),
    metavar="MIB",
    help="For the scan, its logits and labels; default: half of the free memory.",
)
names_option = click.option(
    "--names", is_flag=True, help="Write the file names of scans into it, besides their SHA-256."
)
weights_option = click.option(
    "--weights",
    metavar="KEY",
    help="Which weights, where the checkpoint has several sets: their key or prefix.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout."
)


def check_variants(manifest: Manifest, variants: Iterable[str]) -> None:
    """Refuse variants that a package does not have.

    Raises
    ------
    click.UsageError
        And which it has.
    """
    for variant in variants:
        if variant not in manifest.variants:
            known = ", ".join(manifest.variants)
            raise click.UsageError(f"{manifest.name} has no variant {variant!r}; it has {known}")


def parse_triple(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    """Three positive integers, separated by commas; callback of an option.

    Raises
    ------
    click.BadParameter
        It is something else.
    """
    if value is None:
        return None
    try:
        depth, height, width = (int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not of the form D,H,W, for example 64,128,128"
        ) from None
    if min(depth, height, width) < 1:
        raise click.BadParameter(f"{value!r} must be positive")
    return depth, height, width


def parse_shard(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """``I/N``, the I-th of N parts counted from 1; callback of an option.

    Raises
    ------
    click.BadParameter
        It is something else.
    """
    if value is None:
        return None
    try:
        index, count = (int(part) for part in value.split("/"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not of the form I/N, for example 1/4") from None
    if not 1 <= index <= count:
        raise click.BadParameter(f"{value!r} is no part of {count}: parts count from 1 to N")
    return index, count


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` texts, values in JSON, as a dictionary.

    Raises
    ------
    click.UsageError
        No equals sign, no JSON, or a key given twice.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise _bad_setting(setting)
        if key in parsed:
            raise click.UsageError(f"--set {key} is given twice")
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            raise _bad_setting(setting) from None
    return parsed


def _bad_setting(setting: str) -> click.UsageError:
    return click.UsageError(
        f"--set {setting}: expected KEY=VALUE with a JSON value, such as use_rope=false"
    )
