from __future__ import annotations

import base64
import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime.results import report_voxels
from segmaformer.runtime.results.report_voxels import (
    IntensityScale,
    PackedVoxels,
    middle_voxels,
    pack_voxels,
)

PLENTY = 10_000_000
STRAIGHT = IntensityScale((0, 0, 255, 255), (0, 0, 255, 255))


def unpacked(packed: PackedVoxels) -> tuple[np.ndarray, np.ndarray]:
    """Unpack image and labels (X, Y, Z), as a browser would read them."""
    label_type = {1: "u1", 2: "<u2"}[packed.label_bytes]
    image, labels = (
        np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(
            packed.shape, order="F"
        )
        for text, dtype in ((packed.image, "u1"), (packed.labels, label_type))
    )
    return image, labels


def size_of(packed: PackedVoxels) -> int:
    return len(packed.image) + len(packed.labels)


def random_scan(shape: tuple[int, ...], values: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, shape).astype(np.float32)
    return image, random.integers(0, values, shape).astype(np.uint16)


@settings(max_examples=20)
@given(st.tuples(*[st.integers(1, 9)] * 3))
def test_small_scans_come_back_as_they_were(shape: tuple[int, int, int]) -> None:
    image, labels = random_scan(shape)
    packed = pack_voxels(image, labels, STRAIGHT, spacing_mm=(1, 2, 3), budget_bytes=PLENTY)
    assert packed.shape == shape
    assert packed.factors == (1, 1, 1)
    shown, ranks = unpacked(packed)
    assert np.array_equal(shown, image)
    values = np.unique(np.append(labels, 0))
    assert np.array_equal(values[ranks], labels)


@pytest.mark.parametrize(("count", "label_bytes"), [(255, 1), (256, 2)])
def test_many_labels_take_two_bytes(count: int, label_bytes: int) -> None:
    labels = np.arange(count + 1, dtype=np.uint16).reshape(1, 1, -1) * 7
    packed = pack_voxels(
        labels.astype(np.float32), labels, STRAIGHT, spacing_mm=(1, 1, 1), budget_bytes=PLENTY
    )
    assert packed.label_bytes == label_bytes
    assert np.array_equal(unpacked(packed)[1].ravel(), np.arange(count + 1))


def naive_blocks(
    image: np.ndarray, labels: np.ndarray, factors: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    shape = tuple(-(-n // f) for n, f in zip(image.shape, factors, strict=True))
    means, middles = np.zeros(shape), np.zeros(shape, labels.dtype)
    for place in np.ndindex(*shape):
        box = tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, factors, strict=True))
        means[place] = image[box].mean()
        middles[place] = labels[
            tuple(
                min(i * f + f // 2, n - 1)
                for i, f, n in zip(place, factors, image.shape, strict=True)
            )
        ]
    return means, middles


@pytest.mark.parametrize(
    ("spacing_mm", "factors"),
    [((1, 1, 1), (2, 2, 2)), ((1, 1, 5), (2, 2, 1)), ((4, 1, 1), (1, 3, 3))],
)
def test_too_large_scans_are_averaged_along_the_finest_axes(
    spacing_mm: tuple[float, ...], factors: tuple[int, ...]
) -> None:
    image, labels = random_scan((31, 29, 27))
    whole = pack_voxels(image, labels, STRAIGHT, spacing_mm=spacing_mm, budget_bytes=PLENTY)
    budget_bytes = size_of(whole) // (math.prod(factors) - 1)
    packed = pack_voxels(image, labels, STRAIGHT, spacing_mm=spacing_mm, budget_bytes=budget_bytes)
    assert packed.factors == factors
    assert size_of(packed) <= budget_bytes
    shown, ranks = unpacked(packed)
    means, middles = naive_blocks(image, labels, factors)
    assert np.abs(shown - means).max() <= 0.5001
    assert np.array_equal(ranks, middles)


@settings(max_examples=20)
@given(st.integers(3_000, 200_000))
def test_the_budget_is_kept(budget_bytes: int) -> None:
    image, labels = random_scan((40, 40, 40))
    packed = pack_voxels(image, labels, STRAIGHT, spacing_mm=(1, 1, 1), budget_bytes=budget_bytes)
    assert size_of(packed) <= budget_bytes


def test_no_more_voxels_than_a_browser_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_voxels, "MOST_VOXELS", 1000)
    empty = np.zeros((30, 30, 30), np.float32)
    packed = pack_voxels(
        empty, empty.astype(np.uint8), STRAIGHT, spacing_mm=(1, 1, 1), budget_bytes=PLENTY
    )
    assert packed.shape == (10, 10, 10)


def test_a_budget_for_nothing_is_refused() -> None:
    image, labels = random_scan((5, 1, 3))
    with pytest.raises(ValueError, match="10 bytes cannot hold one voxel"):
        pack_voxels(image, labels, STRAIGHT, spacing_mm=(1, 1, 1), budget_bytes=10)


@pytest.mark.parametrize(
    ("extent", "factor", "middles"),
    [(4, 1, [0, 1, 2, 3]), (6, 2, [1, 3, 5]), (5, 2, [1, 3, 4]), (7, 3, [1, 4, 6])],
)
def test_middles_of_blocks(extent: int, factor: int, middles: list[int]) -> None:
    assert middle_voxels(extent, factor).tolist() == middles


finite = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=60)
@given(st.lists(finite, min_size=1, max_size=40), finite, st.floats(0, 1e5))
def test_scales_are_monotone_and_true_to_half_a_step(
    values: list[float], lower: float, width: float
) -> None:
    image = np.array(values, np.float32).reshape(-1, 1, 1)
    scale = IntensityScale.fit(image, (lower, lower + width))
    table = np.array(scale.table())
    assert len(table) == 256
    assert (np.diff(table) >= 0).all()
    assert table[0] <= lower <= table[-1]
    inside = np.clip(image.ravel(), table[0], table[-1]).astype(np.float64)
    levels = scale.encode(inside)
    assert levels.dtype == np.uint8
    step = np.diff(table).max()
    assert np.abs(table[levels] - inside).max() <= step * 0.501 + 1e-6 * np.abs(table).max()


def test_most_levels_are_in_the_window() -> None:
    image = np.linspace(-1000, 3000, 10_000, dtype=np.float32).reshape(100, 100, 1)
    table = np.array(IntensityScale.fit(image, (-50, 150)).table())
    assert ((table >= -50) & (table <= 150)).sum() >= 160
    assert table[0] < -980
    assert table[-1] > 2980


def test_all_levels_are_in_a_window_around_everything() -> None:
    image = np.linspace(0, 10, 1000, dtype=np.float32).reshape(10, 10, 10)
    table = IntensityScale.fit(image, (-100, 155)).table()
    assert table == pytest.approx(np.arange(-100, 156))


def test_intensities_beyond_the_scale_take_its_ends() -> None:
    assert STRAIGHT.encode(np.array([-5.0, 0.4, 0.6, 300.0])).tolist() == [0, 0, 1, 255]
