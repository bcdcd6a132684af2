"""Cutting away the empty border of a scan, as nnU-Net does before it normalises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segmaformer.runtime.errors import InputError

Box = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]


def nonzero_mask(image: npt.NDArray[np.float32]) -> Mask:
    """Where any channel of `image` (C, D, H, W) differs from zero, holes filled."""
    mask = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    filled: Mask = ndimage.binary_fill_holes(mask)
    return filled


def bounding_box(mask: Mask) -> Box:
    """Smallest box that holds every true element of `mask` (D, H, W).

    Raises
    ------
    InputError
        There is none.
    """
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        if not occupied.size:
            raise InputError("every voxel of the scan is zero; there is nothing to segment")
        bounds.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    depth, height, width = bounds
    return depth, height, width


def crop_to_nonzero(image: npt.NDArray[np.float32]) -> tuple[Box, Mask]:
    """Box of the scan's content and the filled nonzero mask inside it.

    Parameters
    ----------
    image
        Intensities (C, D, H, W) as stored, before any normalisation.

    Raises
    ------
    InputError
        Every voxel is zero.
    """
    mask = nonzero_mask(image)
    box = bounding_box(mask)
    return box, mask[box]
