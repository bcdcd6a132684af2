from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segmaformer.calibration.histogram import BINS, LEAST_LIMIT, Histogram

VALUES = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=50)
@given(st.lists(arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=VALUES)))
def test_nothing_is_lost_whatever_the_order_of_magnitudes(parts: list[np.ndarray]) -> None:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    values = np.abs(np.concatenate([np.zeros(0, np.float32), *(part.ravel() for part in parts)]))
    assert histogram.counts.sum() == np.count_nonzero(values)
    assert histogram.zeros == values.size - np.count_nonzero(values)
    assert histogram.largest == values.max(initial=0)
    assert histogram.largest <= histogram.limit
    if histogram.limit > LEAST_LIMIT and len(parts) == 1:
        assert histogram.limit < 2 * histogram.largest


def test_the_order_of_parts_does_not_matter() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(0, sigma, 1000).astype(np.float32) for sigma in (0.01, 1, 100)]
    forward, backward = Histogram(), Histogram()
    for part in parts:
        forward.add(part)
    for part in reversed(parts):
        backward.add(part)
    assert forward.limit == backward.limit
    # Merging bins rounds a value to a neighbour at most.
    assert np.abs(np.cumsum(forward.counts - backward.counts)).max() <= 2


def test_values_fall_into_their_bins() -> None:
    histogram = Histogram()
    histogram.add(np.array([-1.0, 0.5, 0.5, 0.0, 0.25], np.float32))
    assert histogram.limit == 1.0
    expected = {BINS - 1: 1, BINS // 2: 2, BINS // 4: 1}
    assert {int(i): int(histogram.counts[i]) for i in histogram.counts.nonzero()[0]} == expected
    assert histogram.centres[BINS // 2] == pytest.approx(0.5, abs=1 / BINS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        Histogram().add(np.array([1.0, bad, 2.0], np.float32))
