"""Cutting away the empty border of a scan, as nnU-Net does before it normalises."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.op_library import call_kernel

Box = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]

_SLICES_AT_ONCE = 16


class _FillHolesArgs(ctypes.Structure):
    """Mirror of ``sgmf_fill_holes_args``."""

    _fields_ = (("voxels", ctypes.c_void_p), ("extent", ctypes.c_int64 * 3))


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
    mask = np.not_equal(image[0], 0, order="C")
    for channel in image[1:]:
        mask |= channel != 0
    fill_holes(mask)
    return mask


def fill_holes(mask: Mask) -> None:
    """Set, in place, what steps along the axes cannot reach from the border of `mask`.

    The result is that of ``scipy.ndimage.binary_fill_holes``.

    Parameters
    ----------
    mask
        (D, H, W), bool, in C order, not empty.

    Raises
    ------
    ValueError
        `mask` is not of that kind.
    """
    if mask.ndim != 3 or mask.dtype != np.bool_ or not mask.flags.c_contiguous:
        raise ValueError(f"the mask is {mask.dtype} {mask.shape}; expected bool (D, H, W), C order")
    call_kernel("sgmf_fill_holes", _FillHolesArgs(mask.ctypes.data, mask.shape), threads=1)


def _first_occupied(slices: npt.NDArray[np.float32]) -> int | None:
    """Index of the first slice that is not zero everywhere."""
    for start in range(0, len(slices), _SLICES_AT_ONCE):
        some = slices[start : start + _SLICES_AT_ONCE]
        occupied = (some != 0).any(axis=(1, 2, 3))
        if occupied.any():
            return start + int(occupied.argmax())
    return None
