"""Signatures of the op library's C functions that the runtime calls, header by header.

Arrays are passed as they are and checked for their type; memory that may be strided or absent is
passed as an address.
"""

from __future__ import annotations

from ctypes import POINTER, c_char_p, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.ctypeslib import ndpointer

from segmaformer.runtime.bindings.installed_library import Library
from segmaformer.runtime.bindings.kernel_structs import (
    KeepLargestArgs,
    SelectiveScanArgs,
    SelectiveScanGradientArgs,
    TokenOpArgs,
)
from segmaformer.runtime.bindings.label_task import (
    PROGRESS,
    TAKE_LOGITS,
    DeviceArgs,
    LabelPlanArgs,
    LabelTaskArgs,
)
from segmaformer.runtime.bindings.structs import (
    Failure,
    NetworkGridArgs,
    ResizeArgs,
    VolumeArgs,
)

_TEXT, _ADDRESS = c_char_p, c_void_p


def _array(dtype: Any, *shape: int) -> Any:
    """Declare a parameter that takes an array in C order; of any shape without `shape`."""
    return ndpointer(dtype, shape=shape or None, flags="C_CONTIGUOUS")


_BYTES, _FLOATS, _DOUBLES = _array(np.uint8), _array(np.float32), _array(np.float64)
_INTEGERS, _NUMBER = _array(np.int64), _array(np.int64, 1)
_NUMBER_32 = _array(np.int32, 1)
_AFFINE, _SPACING = _array(np.float64, 4, 4), _array(np.float64, 3)
_TRIPLE, _TRIPLE_32 = _array(np.int64, 3), _array(np.int32, 3)
_POINTER = _array(np.uintp, 1)

Signatures = dict[str, tuple[Any, ...]]
"""Type of the result, then those of the parameters."""

_KERNELS: Signatures = {
    # kernels/interface/selective_scan.h
    "sgmf_selective_scan": (_TEXT, POINTER(SelectiveScanArgs), c_int32, _TEXT),
    "sgmf_cpu_isas": (_TEXT,),
    # kernels/interface/selective_scan_gradient.h
    "sgmf_selective_scan_gradient": (_TEXT, POINTER(SelectiveScanGradientArgs), c_int32, _TEXT),
    # kernels/interface/token_ops.h
    "sgmf_token_op": (_TEXT, POINTER(TokenOpArgs), c_int32, _TEXT),
    # kernels/interface/self_contained.h
    "sgmf_reason_to_refuse": (c_int32, _TEXT, c_int64, _BYTES, c_int64),
    # kernels/interface/keep_largest.h
    "sgmf_keep_largest": (_TEXT, POINTER(KeepLargestArgs), c_int32),
    "sgmf_keep_largest_bytes": (c_int64, _TRIPLE, c_int32, c_int32),
    # kernels/interface/distance_map.h
    "sgmf_distance_map": (_TEXT, _BYTES, _TRIPLE, _SPACING, _DOUBLES),
    # python/coarse_model.h
    "sgmf_without_last_upsampling": (c_int64, _TEXT, c_int64, _ADDRESS, _TRIPLE),
    # python/run_lengths.h
    "sgmf_decode_run_lengths": (_TEXT, _TEXT, c_int64, c_int64, c_int32, _BYTES),
    # python/signature.h
    "sgmf_check_signature": (
        *(c_int32, _TEXT, c_int64, _TEXT, c_int64),
        *(_TEXT, c_int32, _BYTES, c_int64),
    ),
    "sgmf_check_trusted_key": (c_int32, _TEXT, c_int64, _TEXT, _BYTES, c_int64),
    "sgmf_has_signed": (c_int32, _TEXT, _TEXT, c_int64, _TEXT),
    # python/pipeline.h
    "sgmf_free_stream": (None, _ADDRESS),
    # system/processors.h
    "sgmf_available_processors": (c_int32, _TEXT),
}

_PIPELINE_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "sgmf_measure_affine": (_AFFINE, _SPACING),
    "sgmf_orient": (_AFFINE, _TEXT, _TRIPLE_32, _TRIPLE_32),
    "sgmf_find_network_grid": (
        POINTER(VolumeArgs),
        _TEXT,
        c_int32,
        POINTER(NetworkGridArgs),
    ),
    "sgmf_check_grid": (POINTER(NetworkGridArgs), _TEXT),
    "sgmf_fill_image": (
        POINTER(VolumeArgs),
        _TEXT,
        POINTER(NetworkGridArgs),
        POINTER(VolumeArgs),
        c_int32,
        _FLOATS,
    ),
    "sgmf_fill_masks": (
        POINTER(VolumeArgs),
        POINTER(NetworkGridArgs),
        POINTER(VolumeArgs),
        _TEXT,
        c_int32,
        _FLOATS,
    ),
    "sgmf_normalize": (
        _ADDRESS,
        _TRIPLE,
        _TRIPLE,
        _TEXT,
        _ADDRESS,
        c_int32,
        _FLOATS,
    ),
    "sgmf_resize_channels": (POINTER(ResizeArgs), _TEXT, _FLOATS, c_int64, c_int32, _FLOATS),
    "sgmf_find_new_shape": (POINTER(ResizeArgs),),
    "sgmf_find_separate_axis": (POINTER(ResizeArgs), _TEXT, _NUMBER_32),
    "sgmf_find_taps": (
        POINTER(ResizeArgs),
        _TEXT,
        c_int32,
        _INTEGERS,
        _INTEGERS,
        _DOUBLES,
        _NUMBER_32,
    ),
    "sgmf_tile_starts": (_TEXT, c_int32, c_int64, c_int64, _INTEGERS, _NUMBER),
    "sgmf_open_stream": (POINTER(LabelTaskArgs), _POINTER, POINTER(LabelPlanArgs)),
    "sgmf_stream_labels": (_ADDRESS, _FLOATS, PROGRESS, _ADDRESS, c_int32, _TRIPLE),
    "sgmf_stream_logits": (_ADDRESS, _FLOATS, PROGRESS, TAKE_LOGITS),
    "sgmf_check_device": (POINTER(DeviceArgs),),
}
"""Functions of ``python/pipeline.h`` that can fail, without the failure that each takes last."""


def that_can_fail(parameters: dict[str, tuple[Any, ...]]) -> Signatures:
    """Complete signatures of functions that return a status and take a failure last."""
    return {name: (c_int32, *takes, POINTER(Failure)) for name, takes in parameters.items()}


OP_LIBRARY = _KERNELS | that_can_fail(_PIPELINE_PARAMETERS)


def declared(library: Library, signatures: Signatures) -> Library:
    """Declare functions of a loaded library, and return it."""
    for name, (returns, *takes) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library
