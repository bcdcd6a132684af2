"""Histogram of a tensor's magnitudes, in a few kilobytes for any number of values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

BINS = 4096
LEAST_LIMIT = 2.0**-100
_CHUNK = 1 << 20


@dataclass(eq=False)
class Histogram:
    """Magnitudes of all values so far in equal bins from 0 to `limit`.

    If a value lies beyond it, the limit doubles and neighbouring bins are merged: one pass over the
    values is enough, and at least half of the bins are in use.

    Attributes
    ----------
    counts
        Number of values other than 0 in each bin, int64.
    limit
        Upper edge of the last bin, a power of two; 0 as long as all values were 0.
    largest
        Largest magnitude so far.
    zeros
        Number of values that were exactly 0, which no rounding moves.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    limit: float = 0.0
    largest: float = 0.0
    zeros: int = 0

    @property
    def centres(self) -> np.ndarray:
        """Middle of each bin, float64."""
        return (np.arange(BINS) + 0.5) * (self.limit / BINS)

    def add(self, values: np.ndarray) -> None:
        """Count `values`, of any shape, float32.

        Raises
        ------
        ValueError
            A value is NaN or infinite.
        """
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            self._add(np.abs(flat[start : start + _CHUNK]))

    def _add(self, magnitudes: np.ndarray) -> None:
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            raise ValueError("a value is NaN or infinite")
        self._make_room(largest)
        nonzero = magnitudes[magnitudes > 0]
        self.zeros += magnitudes.size - nonzero.size
        if nonzero.size:
            bins = (nonzero * np.float32(BINS / self.limit)).astype(np.int32)
            np.minimum(bins, BINS - 1, out=bins)
            self.counts += np.bincount(bins, minlength=BINS)

    def _make_room(self, largest: float) -> None:
        self.largest = max(self.largest, largest)
        if largest > 0 and self.limit == 0:
            self.limit = max(LEAST_LIMIT, float(2.0 ** np.ceil(np.log2(largest))))
        while self.limit < largest:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros(BINS // 2, np.int64)])
            self.limit *= 2
