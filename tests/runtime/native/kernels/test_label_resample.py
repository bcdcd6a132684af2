"""Labels of interpolated logits, against the interpolation of all logits in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.line_kernels import linear_taps, resample_labels

from segmaformer.runtime.bindings.logit_lines import AxisTaps, LogitLines

TIE = 1e-4

extents = st.tuples(*[st.integers(1, 7)] * 3)
targets = st.tuples(*[st.integers(1, 20)] * 3)
seeds = st.integers(0, 1 << 20)


def in_lines(logits: np.ndarray, random: np.random.Generator) -> LogitLines:
    """Put logits (K, d, h, w) in lines in a random order."""
    channels, depth, height, width = logits.shape
    order = random.permutation(depth * height)
    memory = np.empty((len(order), channels, width), np.float32)
    memory[order] = np.moveaxis(logits, 0, 2).reshape(memory.shape)
    return LogitLines(memory, order.reshape(depth, height))


def random_taps(random: np.random.Generator, length: int, count: int) -> AxisTaps:
    """Draw any taps that the interface allows; some voxels lie on those of the source."""
    low = np.sort(random.integers(0, length, count))
    high = np.minimum(low + random.integers(0, 2, count), length - 1)
    weight = random.random(count) * (random.random(count) < 0.7)
    return AxisTaps(low, high, weight)


def interpolated(logits: np.ndarray, taps: list[AxisTaps]) -> np.ndarray:
    found = logits.astype(np.float64)
    for axis, each in enumerate(taps, start=1):
        weight = each.weight.reshape([-1 if n == axis else 1 for n in range(4)])
        low, high = found.take(each.low, axis), found.take(each.high, axis)
        found = (1 - weight) * low + weight * high
    return found


@settings(max_examples=80)
@given(
    shape=extents,
    target=targets,
    channels=st.integers(1, 9),
    threads=st.integers(1, 3),
    seed=seeds,
)
def test_the_largest_logit_wins(
    shape: tuple[int, ...], target: tuple[int, ...], channels: int, threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(channels, *shape)).astype(np.float32)
    taps = [random_taps(random, n, count) for n, count in zip(shape, target, strict=True)]
    found = resample_labels(in_lines(logits, random), taps, threads=threads)
    exact = interpolated(logits, taps)
    chosen = np.take_along_axis(exact, found[None].astype(int), 0)[0]
    assert (exact.max(axis=0) - chosen).max() < TIE


@settings(max_examples=80)
@given(
    shape=extents,
    target=targets,
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=6),
    threads=st.integers(1, 3),
    seed=seeds,
)
def test_later_regions_paint_over_earlier_ones(
    shape: tuple[int, ...], target: tuple[int, ...], values: list[int], threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(values), *shape)).astype(np.float32)
    taps = [random_taps(random, n, count) for n, count in zip(shape, target, strict=True)]
    found = resample_labels(in_lines(logits, random), taps, regions=values, threads=threads)
    exact = interpolated(logits, taps)
    expected = np.zeros(target, np.uint16)
    for channel, value in zip(exact, values, strict=True):
        expected[channel > 0] = value
    certain = np.abs(exact).min(axis=0) > TIE
    np.testing.assert_array_equal(found[certain], expected[certain])


@settings(max_examples=30)
@given(shape=extents, channels=st.integers(2, 12), seed=seeds)
def test_the_first_of_equal_logits_wins(shape: tuple[int, ...], channels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one = random.normal(size=(1, *shape)).astype(np.float32)
    first = int(random.integers(channels))
    below = one - np.where(np.arange(channels) < first, 1, 0).reshape(-1, 1, 1, 1)
    taps = [linear_taps(n, 2 * n) for n in shape]
    found = resample_labels(in_lines(below.astype(np.float32), random), taps, threads=1)
    assert (found == first).all()


@settings(max_examples=30)
@given(shape=extents, target=targets, channels=st.integers(2, 6), seed=seeds)
def test_labels_follow_a_permutation_of_the_channels(
    shape: tuple[int, ...], target: tuple[int, ...], channels: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(channels, *shape)).astype(np.float32)
    taps = [random_taps(random, n, count) for n, count in zip(shape, target, strict=True)]
    order = random.permutation(channels)
    before = resample_labels(in_lines(logits, random), taps, threads=2)
    after = resample_labels(in_lines(logits[order], random), taps, threads=2)
    np.testing.assert_array_equal(order[after], before)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("low", "high"), [(-1, 0), (2, 3), (3, 3)])
def test_taps_outside_the_logits_are_refused(axis: int, low: int, high: int) -> None:
    random = np.random.default_rng(0)
    taps = [linear_taps(3, 3) for _ in range(3)]
    taps[axis] = AxisTaps(np.array([low]), np.array([high]), np.array([0.5]))
    with pytest.raises(ValueError, match="outside the logits"):
        resample_labels(in_lines(np.zeros((2, 3, 3, 3), np.float32), random), taps, threads=1)
