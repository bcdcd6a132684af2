"""How work that takes time tells its caller where it is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
"""Called with a line of text where something is worth knowing."""

StepProgress = Callable[[int, int], None]
"""Called with the steps done and their number."""

Progress = Callable[[str, int, int], None]
"""Called with the stage, the steps done and their number."""
