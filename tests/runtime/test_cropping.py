from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segmaformer.runtime.cropping import Box, Mask, content_box, fill_holes, nonzero_mask
from segmaformer.runtime.errors import InputError


def scan_with(*points: tuple[int, int, int, int], value: float = 1.0) -> np.ndarray:
    image = np.zeros((2, 6, 7, 8), np.float32)
    for point in points:
        image[point] = value
    return image


def crop_to_nonzero(image: np.ndarray) -> tuple[Box, Mask]:
    box = content_box(image)
    return box, nonzero_mask(image[(slice(None), *box)])


def test_the_box_spans_the_content_of_all_channels() -> None:
    box, mask = crop_to_nonzero(scan_with((0, 1, 2, 3), (1, 4, 5, 6), value=-0.5))
    assert box == (slice(1, 5), slice(2, 6), slice(3, 7))
    assert mask.shape == (4, 4, 4)
    assert np.argwhere(mask).tolist() == [[0, 0, 0], [3, 3, 3]]


def test_enclosed_zeros_belong_to_the_scan_and_open_ones_do_not() -> None:
    image = scan_with()
    image[0, 1:4, 1:4, 1:4] = 5
    image[0, 2, 2, 2] = 0
    image[0, 1, 1, 1:3] = 0
    mask = nonzero_mask(image)
    assert mask[2, 2, 2]
    assert not mask[1, 1, 1]


@settings(max_examples=200, deadline=None)
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


def test_holes_of_a_scan_whose_axes_are_permuted_and_reversed() -> None:
    image = np.pad(np.ones((1, 5, 4, 6), np.float32), [(0, 0)] + [(2, 1)] * 3)
    image[0, 3, 3, 4:6] = 0
    expected = ndimage.binary_fill_holes(image[0]).transpose(2, 0, 1)[:, ::-1]
    assert np.array_equal(nonzero_mask(image.transpose(0, 3, 1, 2)[:, :, ::-1]), expected)


@pytest.mark.parametrize(
    "mask", [np.ones((2, 3), bool), np.ones((2, 3, 4)), np.ones((2, 3, 4), bool).T]
)
def test_holes_of_anything_but_a_volume_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected bool"):
        fill_holes(mask)


def test_content_up_to_the_border_is_kept() -> None:
    box, mask = crop_to_nonzero(scan_with((0, 0, 0, 0), (0, 5, 6, 7)))
    assert box == (slice(0, 6), slice(0, 7), slice(0, 8))
    assert mask.shape == (6, 7, 8)


def test_one_voxel_is_a_box() -> None:
    assert content_box(scan_with((1, 5, 0, 3))) == (slice(5, 6), slice(0, 1), slice(3, 4))


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), *[st.integers(1, 40)] * 3),
    points=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_box_and_mask_are_those_of_the_filled_scan(shape, points, seed) -> None:
    random = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    image[tuple(random.integers(0, shape, (points, 4)).T)] = 1
    image *= random.random(shape) < 0.95
    image[tuple(random.integers(0, shape))] = -1
    box, mask = crop_to_nonzero(image)
    whole = nonzero_mask(image)
    assert np.array_equal(whole[box], mask)
    assert whole.sum() == mask.sum()
    assert all(mask.any(axis=tuple({0, 1, 2} - {axis}))[[0, -1]].all() for axis in range(3))


def test_an_empty_scan_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to segment"):
        crop_to_nonzero(scan_with())
