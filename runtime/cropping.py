"""Cutting away the empty border of a scan, as nnU-Net does before it normalises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segmaformer.runtime.errors import InputError

Box = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]

_SLICES_AT_ONCE = 16


def content_box(image: npt.NDArray[np.float32]) -> Box:
    """Smallest box outside which every channel of `image` (C, D, H, W) is zero.

    Only the border is read, and the first slices of what lies inside.

    Raises
    ------
    InputError
        Every voxel is zero.
    """
    sides: list[slice] = []
    for axis in range(1, 4):
        inside = image[(slice(None), *sides)]
        first = _first_occupied(np.moveaxis(inside, axis, 0))
        if first is None:
            raise InputError("every voxel of the scan is zero; there is nothing to segment")
        last = _first_occupied(np.moveaxis(inside, axis, 0)[::-1])
        sides.append(slice(first, image.shape[axis] - (last or 0)))
    depth, height, width = sides
    return depth, height, width


def nonzero_mask(image: npt.NDArray[np.float32]) -> Mask:
    """Where any channel of `image` (C, D, H, W) differs from zero, holes filled.

    The mask of a scan inside its :func:`content_box` is that of the box alone: all
    around it is zero, so what is open there is open to its border.
    """
    mask = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    filled: Mask = ndimage.binary_fill_holes(mask)
    return filled


def _first_occupied(slices: npt.NDArray[np.float32]) -> int | None:
    """Index of the first slice that is not zero everywhere."""
    for start in range(0, len(slices), _SLICES_AT_ONCE):
        some = slices[start : start + _SLICES_AT_ONCE]
        occupied = (some != 0).any(axis=(1, 2, 3))
        if occupied.any():
            return start + int(occupied.argmax())
    return None
