"""Task of the native pipeline that labels an image, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.callbacks import Callbacks, array_at
from segmaformer.runtime.bindings.kernel_structs import AxisTapsArgs
from segmaformer.runtime.bindings.structs import (
    ResizeArgs,
    VolumeArgs,
)
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
SUMS_BYTES = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class NetworkArgs(ctypes.Structure):
    """Mirror of ``sgmf_network``."""

    _fields_ = (
        ("run", RUN_TILES),
        ("tiles_at_once", ctypes.c_int64),
        ("overlap", ctypes.c_int32),
        ("logits_shape", ctypes.c_int64 * 3),
        ("mirrored_axes", ctypes.c_int32 * 3),
    )


class DeviceMemoryArgs(ctypes.Structure):
    """Mirror of ``sgmf_device_memory``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("free_bytes", ctypes.c_int64),
        ("integrated", ctypes.c_int32),
        ("sums_bytes", SUMS_BYTES),
    )


def pointer_to(memory: DeviceMemoryArgs | None) -> Any:
    """Return a pointer for :class:`LabelTaskArgs`; NULL for None."""
    return None if memory is None else ctypes.pointer(memory)


class MemoryBudgetArgs(ctypes.Structure):
    """Mirror of ``sgmf_memory_budget``."""

    _fields_ = (
        ("budget_bytes", ctypes.c_int64),
        ("scan_bytes", ctypes.c_int64),
        ("scan_voxels", ctypes.c_int64),
        ("bytes_per_label", ctypes.c_int64),
        ("probability_maps", ctypes.c_int64),
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
        ("device", ctypes.POINTER(DeviceMemoryArgs)),
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
_INTEGERS = ctypes.c_void_p


def _callback(*arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, *arguments)


_DEVICE_CALLBACKS = (
    ("start", _callback(_INTEGERS, ctypes.c_int64, _INTEGERS)),
    ("begin", _callback(ctypes.c_int64, ctypes.c_int64)),
    ("clear", _callback(_INTEGERS, ctypes.c_int64)),
    ("next_tile", _callback()),
    ("add", _callback(_INTEGERS, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _INTEGERS)),
    ("divide", _callback(_INTEGERS, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)),
    ("finish", TAKE_LOGITS),
)


class DeviceLinesArgs(ctypes.Structure):
    """Mirror of ``sgmf_device_lines``."""

    _fields_ = _DEVICE_CALLBACKS

    @classmethod
    def of(cls, memory: Any, callbacks: Callbacks) -> DeviceLinesArgs:
        """Wrap an object with a method for each callback, without the callback's first argument."""
        return cls(*(kind(_method(memory, name, callbacks)) for name, kind in _DEVICE_CALLBACKS))


def _method(memory: Any, name: str, callbacks: Callbacks) -> Callable[..., int]:
    method = getattr(memory, name)
    return callbacks.guarded(lambda _user, *arguments: method(*arguments))


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
