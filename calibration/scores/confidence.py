"""Confidence of a mean over some cases as an estimate for others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0
METHOD = f"95 %, percentile bootstrap over cases, {RESAMPLES} resamples, seed {SEED}"


@dataclass(frozen=True)
class Mean:
    """Mean over cases with its 95 % confidence interval.

    Attributes
    ----------
    value
        The mean.
    low, high
        Ends of the interval; None for one case, which tells nothing of others.
    cases
        Number of values.
    """

    value: float
    low: float | None
    high: float | None
    cases: int


def mean_over_cases(values: Iterable[float | None]) -> Mean | None:
    """Average the values other than None, with a confidence interval; None if there are none.

    The interval is the percentile bootstrap's, see :data:`METHOD`. Scores such as Dice are skewed,
    so that a normal approximation would exceed their range. For fewer than about ten cases it is
    too narrow, as every bootstrap is.
    """
    present = np.array([value for value in values if value is not None], np.float64)
    count = len(present)
    if count == 0:
        return None
    mean = float(present.mean())
    if count == 1:
        return Mean(mean, None, None, 1)
    drawn = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    low, high = np.percentile(present[drawn].mean(axis=1), (2.5, 97.5)).tolist()
    return Mean(mean, low, high, count)
