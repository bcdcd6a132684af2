"""Mirrors of the structures in ``python/pipeline.h``, and numbers of theirs."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.spec import Spacing, Triple

ELEMENT_TYPES = (
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
    np.float32,
    np.float64,
)
"""Element types in the order of ``sgmf::ElementType``."""


class Failure(ctypes.Structure):
    """Mirror of ``sgmf_failure``."""

    _fields_ = (
        ("budget_bytes", ctypes.c_int64),
        ("least_bytes", ctypes.c_int64),
        ("message", ctypes.c_char * 1024),
    )


class VolumeArgs(ctypes.Structure):
    """Mirror of ``sgmf_scan``."""

    _fields_ = (
        ("voxels", ctypes.c_void_p),
        ("element_type", ctypes.c_int32),
        ("channels", ctypes.c_int64),
        ("shape", ctypes.c_int64 * 3),
        ("strides", ctypes.c_int64 * 4),
        ("affine", ctypes.c_double * 16),
        ("spacing_mm", ctypes.c_double * 3),
    )

    @classmethod
    def of(
        cls,
        voxels: npt.NDArray[Any],
        affine: npt.NDArray[np.float64],
        spacing_mm: Spacing | None = None,
    ) -> VolumeArgs:
        """Describe voxels (C, X, Y, Z) that the caller keeps alive; None: the affine's spacing."""
        return cls(
            voxels.ctypes.data,
            element_type(voxels),
            len(voxels),
            voxels.shape[1:],
            tuple(stride // voxels.itemsize for stride in voxels.strides),
            tuple(affine.ravel().tolist()),
            spacing_mm or (0.0, 0.0, 0.0),
        )


class NetworkGridArgs(ctypes.Structure):
    """Mirror of ``sgmf_network_grid``."""

    _fields_ = (
        ("axes", ctypes.c_int32 * 3),
        ("reverse", ctypes.c_int32 * 3),
        ("uncropped_shape", ctypes.c_int64 * 3),
        ("box", ctypes.c_int64 * 6),
        ("scan_spacing_mm", ctypes.c_double * 3),
        ("spacing_mm", ctypes.c_double * 3),
        ("shape", ctypes.c_int64 * 3),
        ("centred", ctypes.c_int32),
    )


class ResizeArgs(ctypes.Structure):
    """Mirror of ``sgmf_resize``."""

    _fields_ = (
        ("shape", ctypes.c_int64 * 3),
        ("new_shape", ctypes.c_int64 * 3),
        ("spacing_mm", ctypes.c_double * 3),
        ("new_spacing_mm", ctypes.c_double * 3),
    )


def element_type(array: npt.NDArray[Any]) -> int:
    """Return the index of the array's type in :data:`ELEMENT_TYPES`."""
    return ELEMENT_TYPES.index(array.dtype.type)


def triple(values: Any) -> Triple:
    """Return three integers of a structure."""
    a, b, c = (int(value) for value in values)
    return a, b, c


def spacing(values: Any) -> Spacing:
    """Return three numbers of a structure."""
    a, b, c = (float(value) for value in values)
    return a, b, c
