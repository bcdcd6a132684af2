"""The line in which all work of a process waits: one scan after the other, in order of arrival."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from segmaformer.runtime.errors import SgmfError

T = TypeVar("T")


class LineFullError(SgmfError):
    """No place in the line is free."""


class Line:
    """Work of several callers, done on one thread.

    Parameters
    ----------
    most_places
        Number of places for :meth:`place`, those of work that runs included.
    """

    def __init__(self, most_places: int):
        self._most_places, self._taken = most_places, 0
        self._counting = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "segment")

    @property
    def taken(self) -> int:
        """Number of places that are taken."""
        return self._taken

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the length of a block, before what is to be done has even come.

        Raises
        ------
        LineFullError
            None is free.
        """
        with self._counting:
            if self._taken >= self._most_places:
                raise LineFullError(f"{self._taken} scans wait already; try again later")
            self._taken += 1
        try:
            yield
        finally:
            with self._counting:
                self._taken -= 1

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Let `work` be done when its turn comes; from any thread, and without a place."""
        return self._worker.submit(work)

    def close(self) -> None:
        """Take no more work, and drop what has not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)
