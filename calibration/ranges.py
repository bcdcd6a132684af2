"""Choice of the magnitude that the largest int8 level stands for, by four methods.

A small range has fine steps and cuts off outliers; a large one does the opposite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from segmaformer.calibration.histogram import BINS, Histogram

LEVELS = 127
"""Largest level of a symmetric int8."""

RangeMethod = Literal["mse", "entropy", "percentile", "minmax"]
METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
PERCENTILE = 99.99
_STEP = BINS // 256
_LEAST_BINS = LEVELS + 1


def range_method(name: str) -> RangeMethod:
    """Return `name` as a method to choose ranges.

    Raises
    ------
    ValueError
        There is no such method.
    """
    for method in METHODS:
        if method == name:
            return method
    raise ValueError(f"unknown range choice {name!r}; known: {', '.join(METHODS)}")


def choose_scale(histogram: Histogram, method: RangeMethod) -> float:
    """Choose the step of one int8 level.

    Parameters
    ----------
    histogram
        Magnitudes of a tensor over all tiles.
    method
        ``minmax`` cuts nothing off; ``percentile`` cuts off one value in 10,000; ``mse`` has the
        least mean squared error of rounding and cutting off; ``entropy`` loses the least
        information, after S. Migacz, "8-bit inference with TensorRT", GTC 2017.

    Returns
    -------
    float
        Step above zero; 1 for a tensor that was 0 everywhere.

    Raises
    ------
    ValueError
        There is no such method.
    """
    choose = _RANGES[range_method(method)]
    if histogram.largest == 0:
        return 1.0
    largest = min(choose(histogram), histogram.largest)
    return max(largest / LEVELS, float(np.finfo(np.float32).tiny))


def _minmax(histogram: Histogram) -> float:
    return histogram.largest


def _percentile(histogram: Histogram) -> float:
    """Return the upper edge of the bin in which the share is reached; zeros count as values."""
    reached = histogram.zeros + np.cumsum(histogram.counts)
    index = int(np.searchsorted(reached, reached[-1] * (PERCENTILE / 100)))
    return (index + 1) * histogram.limit / BINS


def _mse(histogram: Histogram) -> float:
    """Return the range with the least expected squared error of rounding and cutting off.

    Values below half a step become 0; others up to the range are off by a twelfth of a squared
    step on average.
    """
    counts, centres = histogram.counts.astype(np.float64), histogram.centres
    n, first, second = (
        np.concatenate([[0.0], np.cumsum(counts * centres**power)]) for power in range(3)
    )
    edges = np.arange(_LEAST_BINS, BINS + 1)
    ranges = edges * (histogram.limit / BINS)
    steps = ranges / LEVELS
    to_zero = np.rint(steps / 2 * (BINS / histogram.limit)).astype(int)
    rounding = second[to_zero] + (n[edges] - n[to_zero]) * steps**2 / 12
    cut = (
        (second[-1] - second[edges])
        - 2 * ranges * (first[-1] - first[edges])
        + ranges**2 * (n[-1] - n[edges])
    )
    return float(ranges[np.argmin(rounding + cut)])


def _entropy(histogram: Histogram) -> float:
    """Return the range whose quantised distribution diverges least from that of the values."""
    candidates = range(_LEAST_BINS, BINS + 1, _STEP)
    divergences = [_divergence(histogram.counts, bins) for bins in candidates]
    return candidates[int(np.argmin(divergences))] * histogram.limit / BINS


def _divergence(counts: np.ndarray, bins: int) -> float:
    """Compute the Kullback-Leibler divergence of the quantised from the true one, in nats."""
    kept = counts[:bins].astype(np.float64)
    reference = kept.copy()
    reference[-1] += counts[bins:].sum()
    present = reference > 0
    starts = np.arange(_LEAST_BINS) * bins // _LEAST_BINS
    sums, in_use = (np.add.reduceat(each, starts) for each in (kept, present.astype(np.float64)))
    spread = np.repeat(sums / np.maximum(in_use, 1), np.diff([*starts, bins])) * present
    # A level that holds outliers alone counts half a value.
    spread = np.maximum(spread, 0.5 * present)
    p, q = reference / reference.sum(), spread / spread.sum()
    return float((p[present] * np.log(p[present] / q[present])).sum())


_RANGES: dict[str, Callable[[Histogram], float]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
