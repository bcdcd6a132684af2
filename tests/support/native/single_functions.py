"""C functions of the native libraries that the runtime calls from C++ alone, or not at all."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.ctypeslib import ndpointer

from segmaformer.runtime.bindings import pipeline_call
from segmaformer.runtime.bindings.callbacks import Callbacks
from segmaformer.runtime.bindings.cuda_library import cuda_library_path
from segmaformer.runtime.bindings.functions import Signatures, declared, that_can_fail
from segmaformer.runtime.bindings.installed_library import Library, load_library
from segmaformer.runtime.bindings.kernel_structs import AxisTapsArgs, SelectiveScanArgs
from segmaformer.runtime.bindings.label_task import PROGRESS, NetworkArgs
from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.bindings.pipeline_call import as_json
from segmaformer.runtime.bindings.structs import VolumeArgs
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.spec import Tiling


class BlendTileArgs(ctypes.Structure):
    """Mirror of ``sgmf_blend_tile_args``."""

    _fields_ = (
        ("channels", ctypes.c_int64),
        ("extent", ctypes.c_int64 * 3),
        ("logits", ctypes.c_void_p),
        ("logits_stride", ctypes.c_int64 * 3),
        ("weights", ctypes.c_void_p),
        ("weights_stride", ctypes.c_int64 * 2),
        ("lines", ctypes.c_void_p),
        ("channel_stride", ctypes.c_int64),
    )


class DivideLinesArgs(ctypes.Structure):
    """Mirror of ``sgmf_divide_lines_args``."""

    _fields_ = (
        ("channels", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("divisors", ctypes.c_void_p),
        ("lines", ctypes.c_void_p),
        ("channel_stride", ctypes.c_int64),
    )


class LabelResampleArgs(ctypes.Structure):
    """Mirror of ``sgmf_label_resample_args``."""

    _fields_ = (
        ("lines", ctypes.c_void_p),
        ("channels", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("taps", AxisTapsArgs * 3),
        ("regions", ctypes.c_void_p),
        ("labels", ctypes.c_void_p),
    )


class FillHolesArgs(ctypes.Structure):
    """Mirror of ``sgmf_fill_holes_args``."""

    _fields_ = (("voxels", ctypes.c_void_p), ("extent", ctypes.c_int64 * 3))


class AxisResampleArgs(ctypes.Structure):
    """Mirror of ``sgmf_axis_resample_args``."""

    _fields_ = (
        ("source_is_double", ctypes.c_int32),
        ("target_is_double", ctypes.c_int32),
        ("outer", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("source", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
    )


class SegmentArgs(ctypes.Structure):
    """Mirror of ``sgmf_segment_args``."""

    _fields_ = (
        ("volume", ctypes.POINTER(VolumeArgs)),
        ("preprocessing", ctypes.c_char_p),
        ("tiling", ctypes.c_char_p),
        ("output", ctypes.c_char_p),
        ("network", NetworkArgs),
        ("progress", PROGRESS),
        ("user", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("budget_bytes", ctypes.c_int64),
        ("labels", ctypes.c_void_p),
        ("label_type", ctypes.c_int32),
        ("label_strides", ctypes.c_int64 * 3),
    )


_NUMBER_32 = ndpointer(np.int32, shape=(1,), flags="C_CONTIGUOUS")
_FLOATS = ndpointer(np.float32, flags="C_CONTIGUOUS")
_DOUBLES = ndpointer(np.float64, flags="C_CONTIGUOUS")

OP_LIBRARY: Signatures = {
    # kernels/interface/blend_tile.h
    "sgmf_blend_tile": (c_char_p, POINTER(BlendTileArgs), c_int32),
    "sgmf_divide_lines": (c_char_p, POINTER(DivideLinesArgs), c_int32),
    # kernels/interface/label_resample.h
    "sgmf_label_resample": (c_char_p, POINTER(LabelResampleArgs), c_int32),
    # kernels/interface/axis_resample.h
    "sgmf_axis_resample": (c_char_p, POINTER(AxisResampleArgs), c_int32),
    # kernels/interface/fill_holes.h
    "sgmf_fill_holes": (c_char_p, POINTER(FillHolesArgs), c_int32),
} | that_can_fail(
    {
        # python/pipeline.h
        "sgmf_resize_weights": (c_int64, c_int64, c_int32, _DOUBLES),
        "sgmf_tile_weights": (c_char_p, _FLOATS),
        "sgmf_segment_volume": (POINTER(SegmentArgs),),
    }
)

CUDA_LIBRARY: Signatures = {
    # cuda/selective_scan_cuda.h
    "sgmf_selective_scan_cuda_workspace": (c_size_t, POINTER(SelectiveScanArgs), c_int32),
    "sgmf_selective_scan_cuda": (
        c_char_p,
        POINTER(SelectiveScanArgs),
        c_void_p,
        c_size_t,
        c_int32,
        c_void_p,
    ),
    "sgmf_cuda_device_count": (c_char_p, _NUMBER_32),
    "sgmf_cuda_multiprocessors": (c_char_p, _NUMBER_32),
    # cuda/label_stream_cuda.h
    "sgmf_clear_lines_cuda": (c_char_p, c_void_p, c_int64, c_int64, c_void_p),
    "sgmf_blend_tile_cuda": (c_char_p, POINTER(BlendTileArgs), c_void_p, c_void_p),
    "sgmf_divide_lines_cuda": (c_char_p, POINTER(DivideLinesArgs), c_void_p),
    "sgmf_label_resample_cuda": (c_char_p, POINTER(LabelResampleArgs), c_void_p),
}


def _op_library() -> Library:
    """Declare the functions of the library that is open now: tests of its loading open it anew."""
    return declared(op_library(), OP_LIBRARY)


def call(name: str, *args: Any, callbacks: Callbacks | None = None) -> None:
    """Call a function of ``python/pipeline.h``; its failure becomes the runtime's error."""
    _op_library()
    pipeline_call.call(name, *args, callbacks=callbacks)


def call_kernel(name: str, args: Any, threads: int) -> None:
    """Call a kernel on buffers that the caller keeps alive; raise ValueError if it refuses."""
    error = getattr(_op_library(), name)(args, threads)
    if error:
        raise ValueError(f"{name}: {error.decode()}")


def tile_weights(tiling: Tiling) -> np.ndarray:
    """Compute the weight of each voxel of a tile in the blend."""
    weights = np.empty(tiling.tile, np.float32)
    call("sgmf_tile_weights", as_json(tiling), weights)
    return weights


def load_cuda_library(path: Path) -> Library:
    """Load a CUDA library and declare its functions."""
    return declared(load_library(path), CUDA_LIBRARY)


@functools.cache
def cuda_library() -> Library:
    """Load the CUDA library of this installation."""
    return load_cuda_library(cuda_library_path())


def enqueue(library: Library, name: str, *arguments: object) -> None:
    """Call a function that takes a stream, without waiting; raise BackendError if it fails."""
    error = getattr(library, name)(*arguments)
    if error is not None:
        raise BackendError(f"{name} failed: {error.decode()}")
