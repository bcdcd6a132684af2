"""What a check found out about a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["refuse", "warn", "note"]
LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")
"""From the gravest: it cannot be segmented; the result may be wrong; worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd about a scan.

    Attributes
    ----------
    level
        How grave it is.
    what
        What was found, and what was expected.
    fix
        What to do about it.
    """

    level: Level
    what: str
    fix: str
