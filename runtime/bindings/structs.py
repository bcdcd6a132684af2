"""Mirrors of the structures in ``python/pipeline.h``, filled from the manifest."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.spec import (
    Normalization,
    Output,
    Preprocessing,
    Resampling,
    Spacing,
    Tiling,
    Triple,
)

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
_SCHEMES = ("zscore", "ct", "none", "rescale01", "rescale01_slices", "rgb01")
_TILINGS = ("nnunet", "monai")


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


class NormalizationArgs(ctypes.Structure):
    """Mirror of ``sgmf_normalization``."""

    _fields_ = (
        ("scheme", ctypes.c_int32),
        ("use_mask", ctypes.c_int32),
        ("mean", ctypes.c_double),
        ("std", ctypes.c_double),
        ("lower", ctypes.c_double),
        ("upper", ctypes.c_double),
    )

    @classmethod
    def of(cls, spec: Normalization) -> NormalizationArgs:
        """Convert a specification.

        Raises
        ------
        ValueError
            The scheme is ``ct`` and lacks a parameter.
        """
        parameters = (spec.mean, spec.std, spec.lower, spec.upper)
        if spec.scheme == "ct" and None in parameters:
            raise ValueError("ct normalisation needs mean, std, lower and upper")
        return cls(_SCHEMES.index(spec.scheme), spec.use_mask, *(p or 0.0 for p in parameters))


class ResamplingArgs(ctypes.Structure):
    """Mirror of ``sgmf_resampling``."""

    _fields_ = (
        ("order", ctypes.c_int32),
        ("order_z", ctypes.c_int32),
        ("separate_z", ctypes.c_int32),
        ("anisotropy_threshold", ctypes.c_double),
    )

    @classmethod
    def of(cls, spec: Resampling) -> ResamplingArgs:
        """Convert a specification."""
        separate = -1 if spec.separate_z is None else spec.separate_z
        return cls(spec.order, spec.order_z, separate, spec.anisotropy_threshold)


class PreprocessingArgs(ctypes.Structure):
    """Mirror of ``sgmf_preprocessing``."""

    _fields_ = (
        ("channels", ctypes.c_int64),
        ("channel_names", ctypes.POINTER(ctypes.c_char_p)),
        ("normalization", ctypes.POINTER(NormalizationArgs)),
        ("orientation", ctypes.c_char_p),
        ("transpose_forward", ctypes.c_int32 * 3),
        ("crop_to_nonzero", ctypes.c_int32),
        ("spacing_mm", ctypes.POINTER(ctypes.c_double)),
        ("resampling", ResamplingArgs),
        ("logits_resampling", ResamplingArgs),
    )

    @classmethod
    def of(cls, spec: Preprocessing) -> PreprocessingArgs:
        """Convert a specification; the structure keeps alive what it points to."""
        names = [name.encode() for name in spec.channels]
        return cls(
            len(spec.channels),
            (ctypes.c_char_p * len(names))(*names),
            (NormalizationArgs * len(names))(*map(NormalizationArgs.of, spec.normalization)),
            None if spec.orientation is None else spec.orientation.encode(),
            spec.transpose_forward,
            spec.crop_to_nonzero,
            None if spec.spacing is None else (ctypes.c_double * 3)(*spec.spacing),
            ResamplingArgs.of(spec.resampling),
            ResamplingArgs.of(spec.logits_resampling),
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
    )


class ResizeArgs(ctypes.Structure):
    """Mirror of ``sgmf_resize``."""

    _fields_ = (
        ("shape", ctypes.c_int64 * 3),
        ("new_shape", ctypes.c_int64 * 3),
        ("spacing_mm", ctypes.c_double * 3),
        ("new_spacing_mm", ctypes.c_double * 3),
        ("resampling", ResamplingArgs),
    )


class TilingArgs(ctypes.Structure):
    """Mirror of ``sgmf_tiling``."""

    _fields_ = (
        ("tile", ctypes.c_int64 * 3),
        ("step", ctypes.c_double),
        ("gaussian", ctypes.c_int32),
        ("mirror_axes", ctypes.c_int32 * 3),
        ("scheme", ctypes.c_int32),
    )

    @classmethod
    def of(cls, spec: Tiling) -> TilingArgs:
        """Convert a specification."""
        mirrored = tuple(axis in spec.mirror_axes for axis in range(3))
        return cls(spec.tile, spec.step, spec.gaussian, mirrored, _TILINGS.index(spec.scheme))


class OutputArgs(ctypes.Structure):
    """Mirror of ``sgmf_output``."""

    _fields_ = (
        ("labels", ctypes.c_int64),
        ("label_values", ctypes.POINTER(ctypes.c_uint16)),
        ("regions", ctypes.c_int64),
        ("region_values", ctypes.POINTER(ctypes.c_uint16)),
    )

    @classmethod
    def of(cls, spec: Output) -> OutputArgs:
        """Convert a specification; the structure keeps alive what it points to."""
        labels = [label.value for label in spec.labels]
        regions = [region.value for region in spec.regions]
        return cls(
            len(labels),
            (ctypes.c_uint16 * len(labels))(*labels),
            len(regions),
            (ctypes.c_uint16 * len(regions))(*regions),
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
