"""Prepare docstrings in numpydoc for mkdocstrings, which knows less of it than people do."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:py:)?\w+:`~?([^`]+)`")
_SHARED_ENTRY = re.compile(
    r"^([\w.]+(?:, [\w.]+)+)\n((?: {4}.*(?:\n|\Z)|\n(?= {4}))+)", re.MULTILINE
)


class Numpydoc(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Show roles as code, and give each name of a shared entry an entry of its own."""
        if obj.docstring:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = _SHARED_ENTRY.sub(_own_entries, text)


def _own_entries(entry: re.Match[str]) -> str:
    """Repeat the description of ``a, b`` below ``a`` and below ``b``."""
    description = entry[2].rstrip("\n")
    return "".join(f"{name}\n{description}\n" for name in entry[1].split(", "))
