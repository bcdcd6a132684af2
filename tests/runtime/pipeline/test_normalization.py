from __future__ import annotations

import typing

import numpy as np
import pytest

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.pipeline.normalization import normalize
from segmaformer.runtime.spec import Normalization, NormalizationScheme

SHAPE = (5, 6, 7)


@pytest.fixture
def channel() -> np.ndarray:
    return np.random.default_rng(3).normal(40, 300, SHAPE).astype(np.float32)


def test_zscore_takes_all_voxels(channel: np.ndarray) -> None:
    exact = channel.astype(np.float64)
    expected = (exact - exact.mean()) / exact.std()
    result = normalize(channel, Normalization("zscore"))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_zscore_in_a_mask_leaves_the_outside_as_it_is(channel: np.ndarray) -> None:
    mask = np.random.default_rng(4).random(SHAPE) < 0.3
    inside = channel[mask].astype(np.float64)
    result = normalize(channel, Normalization("zscore", use_mask=True), mask)
    np.testing.assert_allclose(result[mask], (inside - inside.mean()) / inside.std(), atol=1e-6)
    assert np.array_equal(result[~mask], channel[~mask])


def test_zscore_of_values_beyond_half_precision_is_finite() -> None:
    channel = np.linspace(0, 1_704_295, 4096, dtype=np.float32).reshape(16, 16, 16)
    result = normalize(channel, Normalization("zscore"))
    assert abs(result.astype(np.float64).mean()) < 1e-6
    assert result.astype(np.float64).std() == pytest.approx(1, abs=1e-6)


def test_statistics_do_not_drift_over_many_voxels() -> None:
    channel = np.full((130, 128, 128), 1000.1, np.float32)
    channel[:65] += 1
    result = normalize(channel, Normalization("zscore"))
    np.testing.assert_allclose(np.unique(result), [-1, 1], atol=2e-4)


@pytest.mark.parametrize("use_mask", [False, True])
def test_zscore_of_a_constant_is_zero(use_mask: bool) -> None:
    channel = np.full(SHAPE, 7, np.float32)
    result = normalize(channel, Normalization("zscore", use_mask), np.ones(SHAPE, bool))
    assert not result.any()


def test_zscore_in_an_empty_mask_changes_nothing(channel: np.ndarray) -> None:
    result = normalize(channel, Normalization("zscore", use_mask=True), np.zeros(SHAPE, bool))
    assert np.array_equal(result, channel)


def test_zscore_in_a_mask_needs_one(channel: np.ndarray) -> None:
    with pytest.raises(ValueError, match="give the mask"):
        normalize(channel, Normalization("zscore", use_mask=True))


def test_a_mask_of_another_shape_is_refused(channel: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"has shape \(5, 6\); the channel has \(5, 6, 7\)"):
        normalize(channel, Normalization("zscore", use_mask=True), np.ones(SHAPE[:2], bool))


def test_ct_clips_before_it_scales(channel: np.ndarray) -> None:
    scheme = Normalization("ct", mean=80.0, std=50.0, lower=-100.0, upper=200.0)
    expected = (np.clip(channel, -100, 200) - 80) / 50
    result = normalize(channel, scheme)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.min() == pytest.approx(-3.6)
    assert result.max() == pytest.approx(2.4)


def test_ct_with_a_deviation_of_zero_stays_finite(channel: np.ndarray) -> None:
    scheme = Normalization("ct", mean=0.0, std=0.0, lower=-1.0, upper=1.0)
    np.testing.assert_allclose(normalize(channel, scheme), np.clip(channel, -1, 1) * 1e8, rtol=1e-6)


def test_ct_needs_its_parameters(channel: np.ndarray) -> None:
    with pytest.raises(ValueError, match="mean, std, lower and upper"):
        normalize(channel, Normalization("ct", mean=0.0, std=1.0, lower=0.0))


def test_none_changes_nothing(channel: np.ndarray) -> None:
    assert np.array_equal(normalize(channel, Normalization("none")), channel)


def test_rescale01_spans_zero_to_one(channel: np.ndarray) -> None:
    result = normalize(channel, Normalization("rescale01"))
    low, high = channel.min(), channel.max()
    np.testing.assert_allclose(result, (channel - low) / (high - low), atol=1e-6)
    assert (result.min(), result.max()) == (0, 1)


def test_rescale01_of_a_constant_is_zero() -> None:
    assert not normalize(np.full(SHAPE, 7, np.float32), Normalization("rescale01")).any()


def test_rgb01_divides_by_255() -> None:
    channel = np.array([[[0, 51, 255]]], np.float32)
    result = normalize(channel, Normalization("rgb01"))
    np.testing.assert_allclose(result, [[[0, 0.2, 1]]], atol=1e-7)


@pytest.mark.parametrize(("low", "high"), [(-1, 255), (0, 256)])
def test_rgb01_refuses_what_is_no_colour(low: float, high: float) -> None:
    channel = np.array([[[low, high]]], np.float32)
    with pytest.raises(InputError, match=f"from {low} to {high}"):
        normalize(channel, Normalization("rgb01"))


def test_rescale01_slices_spans_zero_to_one_in_every_slice(channel: np.ndarray) -> None:
    channel = channel.copy()
    channel[1] = 7
    result = normalize(channel, Normalization("rescale01_slices"))
    assert result.dtype == np.float32
    assert not result[1].any()
    for index in (0, 2):
        expected = normalize(channel[index][None], Normalization("rescale01"))[0]
        np.testing.assert_allclose(result[index], expected, atol=1e-6)


@pytest.mark.parametrize("scheme", typing.get_args(NormalizationScheme))
def test_the_input_is_never_changed(scheme: str) -> None:
    channel = np.arange(210, dtype=np.float32).reshape(7, 6, 5).transpose(2, 1, 0)
    before = channel.copy()
    parameters = Normalization(scheme, mean=1.0, std=2.0, lower=3.0, upper=4.0)  # type: ignore[arg-type]
    result = normalize(channel, parameters)
    assert np.array_equal(channel, before)
    assert not np.shares_memory(result, channel)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
