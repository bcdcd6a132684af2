from __future__ import annotations

import numpy as np
import pytest

from segmaformer.runtime.cropping import bounding_box, crop_to_nonzero, nonzero_mask
from segmaformer.runtime.errors import InputError


def scan_with(*points: tuple[int, int, int, int], value: float = 1.0) -> np.ndarray:
    image = np.zeros((2, 6, 7, 8), np.float32)
    for point in points:
        image[point] = value
    return image


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


def test_content_up_to_the_border_is_kept() -> None:
    box, mask = crop_to_nonzero(scan_with((0, 0, 0, 0), (0, 5, 6, 7)))
    assert box == (slice(0, 6), slice(0, 7), slice(0, 8))
    assert mask.shape == (6, 7, 8)


def test_one_voxel_is_a_box() -> None:
    mask = np.zeros((3, 3, 3), bool)
    mask[2, 0, 1] = True
    assert bounding_box(mask) == (slice(2, 3), slice(0, 1), slice(1, 2))


def test_an_empty_scan_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to segment"):
        crop_to_nonzero(scan_with())
