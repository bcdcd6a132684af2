"""The node: it takes complete series one by one, segments them and sends the results."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.node.arrivals import Arrivals
from segmaformer.runtime.node.delivery import Destination, Outcome
from segmaformer.runtime.node.spool import Job, Spool
from segmaformer.runtime.results.dicom.segmentation_object import write_segmentation_object
from segmaformer.runtime.results.dicom.segments import SegmentationType
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.system.interruption import check

Log = Callable[[dict[str, Any]], None]

_NO_CLASS = (Outcome.UNKNOWN_CLASS, Outcome.REJECTED)
_LATER = (Outcome.LATER, Outcome.REJECTED)
_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 30.0
_COUNTS_SECONDS = 60.0


class Node:
    """Worker of a spool.

    Parameters
    ----------
    spool
        Queue, which a receiver fills.
    segment
        Segments the series in a folder; raises InputError if it cannot be segmented.
    destination
        Where results go.
    log
        Called with an event, which holds neither names nor UIDs nor dates.
    kind
        Type of the segmentations; a destination that does not know label maps gets binary ones.
    quiet_seconds
        A series is complete when none of its images came for so long.
    watched
        Folder whose files are moved to the queue; None watches none.
    """

    def __init__(
        self,
        spool: Spool,
        segment: Callable[[Path], Segmentation],
        destination: Destination,
        log: Log,
        *,
        kind: SegmentationType = "binary",
        quiet_seconds: float = 10.0,
        watched: Path | None = None,
    ):
        self._spool, self._segment, self._destination = spool, segment, destination
        self._log, self._kind, self._watched = log, kind, watched
        self._arrivals = Arrivals(spool, quiet_seconds)
        self._sizes: dict[Path, int] = {}
        self._next_try: dict[str, float] = {}
        self._counting = threading.Lock()
        self.counts = Counter[str]()

    def count(self, event: str, number: int = 1) -> None:
        """Count an event; from any thread."""
        with self._counting:
            self.counts[event] += number

    def run(self, until: threading.Event) -> None:
        """Work until an event or until the process must end.

        Parameters
        ----------
        until
            Event to set to let the work end after the present job.

        Raises
        ------
        KeyboardInterrupt
            The process must end, see :mod:`segmaformer.runtime.system.interruption`.
        """
        told, at = Counter[str](), time.monotonic()
        while not until.is_set():
            check()
            if not self.step():
                time.sleep(_LOOK_SECONDS)
            if time.monotonic() - at > _COUNTS_SECONDS and self.counts != told:
                told, at = self.counts.copy(), time.monotonic()
                self.tell_counts()

    def tell_counts(self) -> None:
        """Log how often each event happened."""
        self._log({"event": "counts", **self.counts})

    def step(self) -> bool:
        """Do what can be done now, at most one job; tell if there was a job."""
        self._take_watched()
        found = self._arrivals.sort()
        for name, number in (("dropped", found.dropped), ("late", found.late)):
            if number:
                self.count(name, number)
                self._log({"event": name, "images": number})
        now = time.monotonic()
        ready = [job for job in self._spool.jobs() if self._next_try.get(job.name, 0) <= now]
        for job in ready[:1]:
            self._work(job)
        return bool(ready)

    def _work(self, job: Job) -> None:
        start = time.monotonic()
        try:
            if not job.result.exists():
                write_segmentation_object(job.result, self._segment(job.images), self._kind)
            outcome = self._destination.send(job.result)
        except InputError as error:
            self._end(job, "refused", type(error).__name__, start)
            self._spool.finish(job)
        except Exception as error:  # else the same job would end every later run, too
            self._end(job, "failed", type(error).__name__, start)
            self._spool.set_aside(job)
        else:
            self._sent(job, outcome, start)

    def _sent(self, job: Job, outcome: Outcome, start: float) -> None:
        if outcome is Outcome.DELIVERED:
            self._end(job, "delivered", None, start)
            self._spool.finish(job)
        elif outcome in _NO_CLASS and self._kind == "labelmap":
            self._kind = "binary"
            job.result.unlink()
            self._log({"event": "binary from now on", "reason": outcome.value})
        elif outcome in _LATER:
            self._next_try[job.name] = time.monotonic() + _RETRY_SECONDS
            self._end(job, "waiting", outcome.value, start)
        else:
            self._end(job, "not taken", outcome.value, start)
            self._spool.set_aside(job)

    def _end(self, job: Job, fate: str, reason: str | None, start: float) -> None:
        self.count(fate)
        seconds = round(time.monotonic() - start, 3)
        event = {"event": fate, "job": int(job.name), "seconds": seconds}
        self._log(event if reason is None else {**event, "reason": reason})

    def _take_watched(self) -> None:
        """Move files of the watched folder that no longer grow to the queue."""
        if self._watched is None:
            return
        sizes: dict[Path, int] = {}
        for path in sorted(self._watched.rglob("*")):
            with suppress(FileNotFoundError):  # its writer may rename it
                if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                    sizes[path] = path.stat().st_size
        for path, size in sizes.items():
            if self._sizes.get(path) == size and not self._move(path):
                break
        self._sizes = sizes

    def _move(self, path: Path) -> bool:
        """Move a file to the queue; False if there is no room. One that cannot be moved waits."""
        if self._next_try.get(str(path), 0) > time.monotonic():
            return True
        try:
            if not os.access(path.parent, os.W_OK):  # it would come again and again
                raise PermissionError
            if not self._spool.store(path.read_bytes()):
                self.count("no room")
                return False
            path.unlink()
            self.count("received")
        except OSError:
            self._next_try[str(path)] = time.monotonic() + _RETRY_SECONDS
            self.count("not stored")
        return True
