from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from segmaformer.calibration.histogram import BINS, Histogram
from segmaformer.calibration.ranges import METHODS, choose_scale

SHAPES = {
    "normal": lambda random: random.normal(0, 3, 200_000),
    "heavy tails": lambda random: random.standard_t(2.5, 200_000),
    "one-sided": lambda random: np.maximum(random.normal(0, 1, 200_000), 0),
    "uniform": lambda random: random.uniform(-1, 1, 200_000),
    "outlier": lambda random: np.append(random.normal(0, 1, 200_000), 300.0),
}


def values_of(shape: str) -> np.ndarray:
    values: np.ndarray = SHAPES[shape](np.random.default_rng(0)).astype(np.float32)
    return values


def counted(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def squared_error(values: np.ndarray, scale: float) -> float:
    rounded = np.clip(np.rint(values / scale), -127, 127) * scale
    return float(np.square(values - rounded).mean())


def test_minmax_reaches_the_largest_value() -> None:
    values = values_of("normal")
    scale = choose_scale(counted(values), "minmax")
    assert scale * 127 == pytest.approx(np.abs(values).max())


def test_a_percentile_cuts_off_that_share() -> None:
    values = values_of("heavy tails")
    largest = choose_scale(counted(values), "percentile") * 127
    assert largest == pytest.approx(np.percentile(np.abs(values), 99.99), rel=0.02)


def test_zeros_count_among_the_values_of_a_percentile() -> None:
    values = np.zeros(1_000_000, np.float32)
    values[:50] = np.linspace(1, 2, 50)
    assert choose_scale(counted(values), "percentile") * 127 < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_is_near_the_best_of_all_scales(shape: str) -> None:
    values = values_of(shape)
    found = squared_error(values, choose_scale(counted(values), "mse"))
    largest = float(np.abs(values).max())
    best = min(squared_error(values, largest * part / 127) for part in np.geomspace(0.01, 1, 200))
    assert found <= 1.02 * best


@pytest.mark.parametrize(("method", "most"), [("mse", 0.5), ("entropy", 0.1), ("percentile", 0.1)])
def test_an_outlier_does_not_set_the_scale(method: str, most: float) -> None:
    with_outlier, without = (counted(values_of(shape)) for shape in ("outlier", "normal"))
    assert choose_scale(with_outlier, method) < most * choose_scale(with_outlier, "minmax")
    assert choose_scale(without, method) > 0.5 * choose_scale(without, "minmax")


def test_entropy_keeps_most_of_a_uniform_range() -> None:
    histogram = counted(values_of("uniform"))
    assert choose_scale(histogram, "entropy") == pytest.approx(1 / 127, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_scales_follow_the_units(method: str, factor: float) -> None:
    values = values_of("normal")
    one = choose_scale(counted(values), method)
    other = choose_scale(counted(values * np.float32(2.0 ** round(np.log2(factor)))), method)
    assert other / one == pytest.approx(2.0 ** round(np.log2(factor)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1e-44, 3.0, 3e38])
def test_constant_tensors_have_a_scale(method: str, value: float) -> None:
    scale = choose_scale(counted(np.full(100, value, np.float32)), method)
    assert np.finfo(np.float32).tiny <= scale < np.inf


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="known: mse, entropy, percentile, minmax"):
        choose_scale(Histogram(np.zeros(BINS, np.int64)), "median")  # type: ignore[arg-type]
