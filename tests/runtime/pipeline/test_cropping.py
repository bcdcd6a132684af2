"""Cropping of a scan, and the place where a normalisation sees it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support.native.native_kernels import cropped, fill_holes

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Box, Normalization


def scan_with(*points: tuple[int, int, int, int], value: float = 1.0) -> np.ndarray:
    image = np.zeros((2, 6, 7, 8), np.float32)
    for point in points:
        image[point] = value
    return image


def content_box(image: np.ndarray) -> Box:
    return cropped(image, Normalization("none")).box


def test_the_box_spans_the_content_of_all_channels() -> None:
    image = scan_with((0, 1, 2, 3), (1, 4, 5, 6), value=-0.5)
    kept = cropped(image, Normalization("none"))
    assert kept.box == (slice(1, 5), slice(2, 6), slice(3, 7))
    assert np.array_equal(kept.image, image[(slice(None), *kept.box)])


def test_enclosed_zeros_belong_to_the_scan_and_open_ones_do_not() -> None:
    image = scan_with()[:1]
    image[0, 1:4, 1:4, 1:4] = 5
    image[0, 2, 2, 2] = 0
    image[0, 1, 1, 1:3] = 0
    scaled = cropped(image, Normalization("zscore", use_mask=True)).image
    assert scaled[0, 1, 1, 1] < 0
    assert scaled[0, 0, 0, 0] == 0


@settings(max_examples=200)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    density=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_holes_are_those_of_scipy(shape, density, seed) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    expected = ndimage.binary_fill_holes(mask)
    fill_holes(mask)
    assert np.array_equal(mask, expected)


def test_content_up_to_the_border_is_kept() -> None:
    box = content_box(scan_with((0, 0, 0, 0), (0, 5, 6, 7)))
    assert box == (slice(0, 6), slice(0, 7), slice(0, 8))


def test_one_voxel_is_a_box() -> None:
    assert content_box(scan_with((1, 5, 0, 3))) == (slice(5, 6), slice(0, 1), slice(3, 4))


@settings(max_examples=100)
@given(
    shape=st.tuples(st.integers(1, 2), *[st.integers(1, 40)] * 3),
    points=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_the_box_is_the_smallest_with_all_content(shape, points, seed) -> None:
    random = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    image[tuple(random.integers(0, shape, (points, 4)).T)] = 1
    image *= random.random(shape) < 0.95
    image[tuple(random.integers(0, shape))] = -1
    (expected,) = ndimage.find_objects((image != 0).any(axis=0).astype(int))
    assert content_box(image) == expected


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(3, 14)] * 3),
    density=st.floats(0.3, 0.9),
    seed=st.integers(0, 1000),
)
def test_statistics_are_those_inside_the_filled_mask(shape, density, seed) -> None:
    """Compare both channels, whether or not the scan is cropped first."""
    random = np.random.default_rng(seed)
    image = random.normal(40, 9, (2, *shape)).astype(np.float32)
    image *= random.random((2, *shape)) < density
    image[:, 1, 1, 1] = 5
    found = cropped(image, Normalization("zscore", use_mask=True))
    mask = ndimage.binary_fill_holes((image != 0).any(axis=0).astype(int))
    for channel, scaled in zip(image, found.image, strict=True):
        inside = channel[mask].astype(float)
        expected = channel.astype(float)
        expected[mask] = (inside - inside.mean()) / max(inside.std(), 1e-8)
        np.testing.assert_allclose(scaled, expected[found.box], atol=1e-5)


def test_an_empty_scan_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to segment"):
        content_box(scan_with())
