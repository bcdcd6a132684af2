from __future__ import annotations

import numpy as np
import pytest

from segmaformer.calibration.scores.confidence import mean_over_cases


def test_the_interval_is_that_of_the_normal_where_that_holds() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    mean = mean_over_cases(values.tolist())
    assert mean is not None
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert mean.value == pytest.approx(values.mean())
    assert mean.low == pytest.approx(values.mean() - half, abs=half / 10)
    assert mean.high == pytest.approx(values.mean() + half, abs=half / 10)


def test_it_holds_the_true_mean_nineteen_times_of_twenty() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        mean = mean_over_cases(random.beta(8, 1, 42).tolist())
        assert mean is not None
        assert mean.low is not None
        assert mean.high is not None
        hits += mean.low < 8 / 9 < mean.high
    assert 0.88 <= hits / 200 <= 0.99


def test_values_that_are_not_there_do_not_count() -> None:
    mean = mean_over_cases([0.5, None, 1.0, None])
    assert mean == mean_over_cases([0.5, 1.0])
    assert mean is not None
    assert (mean.value, mean.cases) == (0.75, 2)


def test_one_case_has_no_interval_and_none_no_mean() -> None:
    mean = mean_over_cases([0.5])
    assert mean is not None
    assert (mean.value, mean.low, mean.high, mean.cases) == (0.5, None, None, 1)
    assert mean_over_cases([None]) is None
