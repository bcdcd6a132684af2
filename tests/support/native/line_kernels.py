"""The native library's kernels between logits and labels, as functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from support.native.single_functions import (
    BlendTileArgs,
    DivideLinesArgs,
    LabelResampleArgs,
    call_kernel,
)

from segmaformer.runtime.bindings.kernel_structs import AxisTapsArgs
from segmaformer.runtime.bindings.logit_lines import AxisTaps, LogitLines, Logits


def linear_taps(length: int, new_length: int) -> AxisTaps:
    """Make taps that interpolate an axis linearly."""
    centres = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    inside = np.asarray(centres.clip(0, length - 1), np.float64)
    low = inside.astype(np.int64)
    return AxisTaps(low, np.minimum(low + 1, length - 1), inside - low)


def blend_tile(sums: LogitLines, logits: Logits, weights: Logits, *, threads: int) -> None:
    """Compute ``sums += logits * weights`` in place."""
    pointers = _pointers(sums)
    args = BlendTileArgs(
        channels=len(logits),
        extent=logits.shape[1:],
        logits=logits.ctypes.data,
        logits_stride=_element_strides(logits),
        weights=weights.ctypes.data,
        weights_stride=_element_strides(weights),
        lines=pointers.ctypes.data,
        channel_stride=_channel_stride(sums),
    )
    call_kernel("sgmf_blend_tile", args, threads)


def divide_lines(sums: LogitLines, divisors: Logits, *, threads: int) -> None:
    """Compute ``sums /= divisors`` in place."""
    pointers = _pointers(sums)
    args = DivideLinesArgs(
        channels=sums.memory.shape[1],
        count=pointers.size,
        width=divisors.shape[2],
        divisors=divisors.ctypes.data,
        lines=pointers.ctypes.data,
        channel_stride=_channel_stride(sums),
    )
    call_kernel("sgmf_divide_lines", args, threads)


def resample_labels(
    logits: LogitLines,
    taps: Sequence[AxisTaps],
    *,
    regions: Sequence[int] | None = None,
    threads: int,
) -> npt.NDArray[np.uint16]:
    """Find the labels on another grid, without the logits there."""
    labels = np.empty([len(axis) for axis in taps], np.uint16)
    values = None if regions is None else np.array(regions, np.uint16)
    pointers = _pointers(logits)
    _, channels, width = logits.memory.shape
    args = LabelResampleArgs(
        lines=pointers.ctypes.data,
        channels=channels,
        channel_stride=_channel_stride(logits),
        depth=logits.places.shape[0],
        height=logits.places.shape[1],
        width=width,
        taps=tuple(_taps(axis) for axis in taps),
        regions=None if values is None else values.ctypes.data,
        labels=labels.ctypes.data,
    )
    call_kernel("sgmf_label_resample", args, threads)
    return labels


def _element_strides(array: Logits) -> tuple[int, ...]:
    """Strides of all axes but the last, in elements."""
    return tuple(stride // array.itemsize for stride in array.strides[:-1])


def _pointers(lines: LogitLines) -> npt.NDArray[np.int64]:
    first = lines.memory.ctypes.data
    return np.ascontiguousarray(lines.places * lines.memory.strides[0] + first)


def _channel_stride(lines: LogitLines) -> int:
    return lines.memory.strides[1] // lines.memory.itemsize


def _taps(axis: AxisTaps) -> AxisTapsArgs:
    return AxisTapsArgs(
        len(axis), axis.low.ctypes.data, axis.high.ctypes.data, axis.weight.ctypes.data
    )
