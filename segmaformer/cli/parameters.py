"""Types of the command's arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

EXISTING_PATH = click.Path(exists=True, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
