"""The one line that shows how far a batch is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TypeVar

from segmaformer.cli import console

Item = TypeVar("Item")

_SHOWN_EVERY_SECONDS = 0.5
_TOLD_EVERY_SECONDS = 60.0


class ProgressLine:
    """Count, rate and time left; replaced on a terminal, else a new line each minute.

    Parameters
    ----------
    count
        Number of scans to segment.
    """

    def __init__(self, count: int):
        self._count, self._done = count, 0
        self._start = self._shown = time.monotonic()
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()

    def following(self, results: Iterator[Item]) -> Iterator[Item]:
        """Pass results on, counting each."""
        for result in results:
            self.clear()
            yield result
            self.advance()

    def advance(self) -> None:
        """Count one more scan, and show the line if it is due."""
        self._done += 1
        now = time.monotonic()
        every = _SHOWN_EVERY_SECONDS if self._on_terminal else _TOLD_EVERY_SECONDS
        if now - self._shown < every and self._done < self._count:
            return
        self._shown = now
        text = progress_text(self._done, self._count, now - self._start)
        if self._on_terminal:
            console.show_over(text + "\n" * (self._done == self._count))
        elif self._done < self._count:
            console.say(text)

    def clear(self) -> None:
        """Make room on a terminal for another line."""
        if self._on_terminal:
            console.show_over("")


def progress_text(done: int, count: int, seconds: float) -> str:
    """Return the line: ``37 of 208 scans, 4.1 a second, 0:00:42 left``."""
    rate = done / max(seconds, 1e-9)
    left = round((count - done) / rate)
    speed = f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each"
    clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
    return f"{done} of {count} scans, {speed}, {clock} left"
