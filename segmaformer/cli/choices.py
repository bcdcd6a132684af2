"""Choices of options, and what a mistyped one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import click


class NamedChoice(click.Choice[str]):
    """Choice whose error names the nearest value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, if it is one of the choices.

        Raises
        ------
        click.BadParameter
            It is none; the message lists them all, and the nearest again.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            question = did_you_mean(str(value), self.choices)
            raise click.BadParameter(f"{error.message}{question}", ctx, param) from None


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return a question that names the known word nearest to a mistyped one; nothing if none is."""
    close = difflib.get_close_matches(value, [*known], 1)
    return f" Did you mean {close[0]!r}?" if close else ""
