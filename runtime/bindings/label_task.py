"""Task of the native pipeline that labels an image, through ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.callbacks import array_at
from segmaformer.runtime.bindings.kernel_structs import AxisTapsArgs
from segmaformer.runtime.bindings.structs import ResizeArgs
from segmaformer.runtime.spec import Box


def integers_at(address: int, *shape: int) -> npt.NDArray[np.int64]:
    """Copy integers from memory of the native pipeline."""
    return array_at(address, np.int64, *shape).copy()


def box_of(edges: Any) -> Box:
    """Make the box whose sides begin and end at six numbers."""
    a, b, c, d, e, f = (int(edge) for edge in edges)
    return slice(a, b), slice(c, d), slice(e, f)


RUN_TILES = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.POINTER(ctypes.c_void_p),
)
PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class NetworkArgs(ctypes.Structure):
    """Mirror of ``sgmf_network``."""

    _fields_ = (
        ("run", RUN_TILES),
        ("tiles_at_once", ctypes.c_int64),
        ("overlap", ctypes.c_int32),
        ("logits_shape", ctypes.c_int64 * 3),
        ("mirrored_axes", ctypes.c_int32 * 3),
    )


class DeviceLogitsArgs(ctypes.Structure):
    """Mirror of ``sgmf_device_logits``."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("computed", ctypes.c_void_p),
        ("used", ctypes.c_void_p),
    )


RUN_ON_DEVICE = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.POINTER(DeviceLogitsArgs),
)


class DeviceArgs(ctypes.Structure):
    """Mirror of ``sgmf_device``."""

    _fields_ = (
        ("driver", ctypes.c_char_p),
        ("kernels", ctypes.c_char_p),
        ("run", RUN_ON_DEVICE),
    )


def pointer_to(device: DeviceArgs) -> Any:
    """Return a pointer for :class:`LabelTaskArgs`."""
    return ctypes.pointer(device)


class MemoryBudgetArgs(ctypes.Structure):
    """Mirror of ``sgmf_memory_budget``."""

    _fields_ = (
        ("budget_bytes", ctypes.c_int64),
        ("scan_bytes", ctypes.c_int64),
        ("scan_voxels", ctypes.c_int64),
        ("bytes_per_label", ctypes.c_int64),
        ("probability_maps", ctypes.c_int64),
        ("postprocessing_bytes", ctypes.c_int64),
    )


class LabelTaskArgs(ctypes.Structure):
    """Mirror of ``sgmf_label_task``."""

    _fields_ = (
        ("tiling", ctypes.c_char_p),
        ("output", ctypes.c_char_p),
        ("resampling", ctypes.c_char_p),
        ("channels", ctypes.c_int64),
        ("resize", ResizeArgs),
        ("network", NetworkArgs),
        ("user", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("budget", MemoryBudgetArgs),
        ("device", ctypes.POINTER(DeviceArgs)),
    )


class LabelPlanArgs(ctypes.Structure):
    """Mirror of ``sgmf_label_plan``."""

    _fields_ = (("tile_runs", ctypes.c_int64), ("streams", ctypes.c_int32))


class FinishedLogitsArgs(ctypes.Structure):
    """Mirror of ``sgmf_finished_logits``."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("line_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("lines", ctypes.c_void_p),
        ("depth", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("target", ctypes.c_int64 * 6),
        ("taps", AxisTapsArgs * 3),
    )

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Copy the numbers (d, h) of the lines."""
        return integers_at(self.lines, self.depth, self.height)

    @property
    def box(self) -> Box:
        """Return the place of the logits in the target."""
        return box_of(self.target)


TAKE_LOGITS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.POINTER(FinishedLogitsArgs))
