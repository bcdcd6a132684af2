"""Finding of a check about a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["refuse", "warn", "note"]
LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")
"""Levels, gravest first: cannot be segmented; may give a wrong result; worth knowing."""


@dataclass(frozen=True)
class Finding:
    """Problem or oddity of a scan.

    Attributes
    ----------
    level
        Gravity of the finding.
    what
        Description of the finding, and of what was expected.
    fix
        Advice to the user.
    """

    level: Level
    what: str
    fix: str
