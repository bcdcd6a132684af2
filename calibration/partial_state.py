"""State of an unfinished observation, kept in a file so that it can continue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segmaformer.calibration.histogram import BINS, Histogram
from segmaformer.runtime.progress import Report
from segmaformer.runtime.system.atomic import atomic_file
from segmaformer.runtime.system.npz import UNREADABLE, read_npz

SAVE_SECONDS = 5.0


@dataclass(eq=False)
class PartialState:
    """Histograms after a number of runs.

    Attributes
    ----------
    key
        Identifier of network, tensors, tiles and grouping; counts of another key are not used.
    path
        File that keeps the state; None keeps nothing.
    done
        Number of runs that are counted completely.
    """

    key: str
    path: Path | None
    histograms: dict[str, Histogram]
    done: int = 0
    _saved: float = field(default_factory=time.monotonic, init=False, repr=False)

    @classmethod
    def resumed(
        cls, path: Path | None, key: str, tensors: Sequence[str], report: Report
    ) -> PartialState:
        """Load the state in `path` if it has this key, else start a fresh one; tell `report`."""
        state = cls(key, path, {name: Histogram() for name in tensors})
        if path is None or not path.exists():
            return state
        try:
            state._load(path)
        except UNREADABLE as error:
            report(f"{path} cannot be used ({error}); counting from the start")
            return cls(key, path, {name: Histogram() for name in tensors})
        report(f"continuing after {state.done} runs that {path} has counted")
        return state

    def _load(self, path: Path) -> None:
        tensors, key = len(self.histograms), np.frombuffer(self.key.encode(), np.uint8)
        expected = {
            "key": (key.shape, "u"),
            "done": ((), "iu"),
            "counts": ((tensors, BINS), "iu"),
            "limits": ((tensors,), "f"),
            "largest": ((tensors,), "f"),
            "zeros": ((tensors,), "iu"),
        }
        with path.open("rb") as stream:
            stored = read_npz(stream, expected)
        if not np.array_equal(stored["key"], key):
            raise ValueError("it belongs to another calibration")
        columns = zip(
            self.histograms.values(),
            stored["counts"],
            stored["limits"].tolist(),
            stored["largest"].tolist(),
            stored["zeros"].tolist(),
            strict=True,
        )
        for histogram, counts, limit, largest, zeros in columns:
            histogram.counts = counts.astype(np.int64)
            histogram.limit, histogram.largest, histogram.zeros = limit, largest, zeros
        self.done = int(stored["done"])

    def finish_run(self) -> None:
        """Count one more run as done, and save if the last save is a while ago."""
        self.done += 1
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the state, all of it or nothing."""
        if self.path is None:
            return
        histograms = self.histograms.values()
        with atomic_file(self.path) as stream:
            np.savez(
                stream,
                key=np.frombuffer(self.key.encode(), np.uint8),
                done=np.array(self.done),
                counts=np.stack([each.counts for each in histograms]),
                limits=np.array([each.limit for each in histograms]),
                largest=np.array([each.largest for each in histograms]),
                zeros=np.array([each.zeros for each in histograms]),
            )
        self._saved = time.monotonic()
