"""Types of the callbacks by which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
"""Called with a line of text about each notable fact."""

StepProgress = Callable[[int, int], None]
"""Called with the number of steps done and of all steps."""

Progress = Callable[[str, int, int], None]
"""Called with the stage, and the number of its steps done and of all its steps."""
