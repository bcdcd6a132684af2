"""Arguments and options shared by several commands."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.runtime.backends import DEVICES, backend_names
from segmaformer.runtime.bindings.processors import MOST_THREADS
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.scans.volume import check_replacement_value
from segmaformer.runtime.system.extras import require_extra
from segmaformer.runtime.system.memory import MOST_BUDGET_MIB

EXISTING_PATH = click.Path(exists=True, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class _ScanPath(click.Path):
    """Path that must exist; one that is no readable file is a refused scan, not wrong usage."""

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
    help="Replace NaN and infinite voxels by VALUE; otherwise such scans are refused.",
)


def _parse_where(
    _context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if value:
        from segmaformer.runtime.scans.dicom.keywords import parse_conditions

        require_extra("pydicom", extra="dicom")
        try:
            parse_conditions(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


where_option = click.option(
    "--where",
    multiple=True,
    callback=_parse_where,
    metavar="KEYWORD=VALUE",
    help="Take only DICOM images with this attribute, such as SeriesNumber=4 or "
    "InstanceNumber=1..20; repeat for several. `sgmf series` lists a folder's series.",
)


_keep_tilt_option = click.option(
    "--keep-tilt",
    is_flag=True,
    help="Show the network a tilted DICOM series as it is, not straightened.",
)


def scan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about reading scans, which the command gets as one argument `reading`."""

    @nan_to_option
    @where_option
    @_keep_tilt_option
    @functools.wraps(command)
    def with_reading(
        *arguments: Any,
        nan_to: float | None,
        where: tuple[str, ...],
        keep_tilt: bool,
        **others: Any,
    ) -> Any:
        return command(*arguments, reading=ScanOptions(nan_to, where, keep_tilt), **others)

    return with_reading


backend_option = click.option(
    "--backend",
    type=NamedChoice(backend_names()),
    default="auto",
    show_default=True,
    help="Software that runs the network; auto picks the best one that works here.",
)
device_option = click.option(
    "--device", type=NamedChoice(DEVICES), help="Device to run on; by default the backend's own."
)
variants_option = click.option(
    "--variant",
    "variants",
    multiple=True,
    help="Variant, such as fp32 or fp16; repeat for several. Default: all of the package.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="Number of CPU threads. Default: one for each processor.",
)
memory_budget_option = click.option(
    "--memory-budget",
    type=click.IntRange(1, MOST_BUDGET_MIB),
    metavar="MIB",
    help="Memory for a scan, its logits and its labels, in MiB. Default: half of the free memory.",
)
names_option = click.option(
    "--names",
    is_flag=True,
    help="Record the scans' file names in the package, besides their SHA-256.",
)
weights_option = click.option(
    "--weights",
    metavar="KEY",
    help="Key or prefix of the weights to use, if the checkpoint has several sets.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON document on stdout."
)


def require_scans(reading: ScanOptions, source: str) -> None:
    """Refuse options about reading scans if there are none to read.

    Raises
    ------
    click.UsageError
        One is given; the message names it, and `source`: the options that give scans.
    """
    given = {
        "--nan-to": reading.nan_to is not None,
        "--where": bool(reading.where),
        "--keep-tilt": reading.keep_tilt,
    }
    for option, is_given in given.items():
        if is_given:
            raise click.UsageError(f"{option} needs scans: {source}")


def check_variants(manifest: Manifest, variants: Iterable[str]) -> None:
    """Raise an error for variants that a package does not have.

    Raises
    ------
    click.UsageError
        A variant is missing; the message lists those of the package.
    """
    for variant in variants:
        if variant not in manifest.variants:
            known = ", ".join(manifest.variants)
            raise click.UsageError(f"{manifest.name} has no variant {variant!r}; it has {known}")


def parse_triple(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    """Parse three positive integers separated by commas; callback of an option.

    Raises
    ------
    click.BadParameter
        The text has another form.
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
    """Parse ``I/N``, the I-th of N parts counted from 1; callback of an option.

    Raises
    ------
    click.BadParameter
        The text has another form.
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
    """Turn ``KEY=VALUE`` texts, with values in JSON, into a dictionary.

    Raises
    ------
    click.UsageError
        A text has no equals sign or no JSON value, or a key is given twice.
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
