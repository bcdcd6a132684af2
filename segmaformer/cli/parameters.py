"""Types of the command's arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Triple(click.ParamType):
    """Three positive integers, separated by commas."""

    name = "D,H,W"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        try:
            depth, height, width = (int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not of the form D,H,W, for example 64,128,128", param, ctx)
        if min(depth, height, width) < 1:
            self.fail(f"{value!r} must be positive", param, ctx)
        return depth, height, width


TRIPLE = _Triple()


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` texts, values in JSON, as a dictionary.

    Raises
    ------
    click.UsageError
        No equals sign, or no JSON.
    """
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        try:
            parsed[key] = json.loads(value) if equals else None
        except ValueError:
            equals = ""
        if not equals:
            raise click.UsageError(
                f"--set {setting}: expected KEY=VALUE with a JSON value, such as use_rope=false"
            )
    return parsed
