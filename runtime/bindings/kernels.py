"""The native library's kernels between logits and labels, as functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.callbacks import array_at
from segmaformer.runtime.bindings.kernel_structs import (
    AxisTapsArgs,
    BlendTileArgs,
    DivideLinesArgs,
    LabelResampleArgs,
)
from segmaformer.runtime.bindings.op_library import call_kernel

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AxisTaps:
    """Places of the voxels of one axis between those of another grid.

    A voxel is ``(1 - weight) * source[low] + weight * source[high]``, with `high` equal to `low` or
    one more.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.low)

    @classmethod
    def between(cls, length: int, new_length: int) -> AxisTaps:
        """Make taps that interpolate an axis linearly."""
        centres = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
        inside = np.asarray(centres.clip(0, length - 1), np.float64)
        low = inside.astype(np.int64)
        return cls(low, np.minimum(low + 1, length - 1), inside - low)

    @classmethod
    def of(cls, args: AxisTapsArgs) -> AxisTaps:
        """Copy the taps that a structure points to."""
        low, high = (array_at(a, np.int64, args.count).copy() for a in (args.low, args.high))
        return cls(low, high, array_at(args.weight, np.float64, args.count).copy())

    def part(self, begin: int, end: int, origin: int) -> AxisTaps:
        """Return the taps of voxels `begin` to `end`, for a source that starts at `origin`."""
        side = slice(begin, end)
        return AxisTaps(self.low[side] - origin, self.high[side] - origin, self.weight[side])

    @property
    def _struct(self) -> AxisTapsArgs:
        return AxisTapsArgs(
            len(self), self.low.ctypes.data, self.high.ctypes.data, self.weight.ctypes.data
        )


@dataclass(frozen=True, eq=False)
class LogitLines:
    """Logits (K, d, h, w) in lines at any places of a memory.

    Attributes
    ----------
    memory
        View (N, K, w), float32, with contiguous rows: line n holds one row of voxels along width in
        every channel.
    places
        Shape (d, h): number of the line with the row at a depth and height.
    """

    memory: Logits
    places: npt.NDArray[np.int64]

    def plane(self, depth: int) -> Logits:
        """Copy one plane (K, h, w)."""
        return self.memory[self.places[depth]].swapaxes(0, 1)

    def _pointers(self) -> npt.NDArray[np.int64]:
        if self.places.size and not (
            self.places.min() >= 0 and self.places.max() < len(self.memory)
        ):
            raise ValueError(f"a line lies outside the memory of {len(self.memory)} lines")
        return np.ascontiguousarray(self.places * self.memory.strides[0] + self.memory.ctypes.data)

    @property
    def _channel_stride(self) -> int:
        return self.memory.strides[1] // self.memory.itemsize


def blend_tile(sums: LogitLines, logits: Logits, weights: Logits, *, threads: int) -> None:
    """Compute ``sums += logits * weights``, in place and without temporaries.

    Parameters
    ----------
    sums
        Lines (K, d, h, w), each at most once.
    logits
        View (K, d, h, w), float32, with contiguous rows.
    weights
        View (d, h, w), float32, with contiguous rows.
    threads
        Number of threads.
    """
    pointers = sums._pointers()
    args = BlendTileArgs(
        channels=len(logits),
        extent=logits.shape[1:],
        logits=logits.ctypes.data,
        logits_stride=_element_strides(logits),
        weights=weights.ctypes.data,
        weights_stride=_element_strides(weights),
        lines=pointers.ctypes.data,
        channel_stride=sums._channel_stride,
    )
    call_kernel("sgmf_blend_tile", args, threads)


def divide_lines(sums: LogitLines, divisors: Logits, *, threads: int) -> None:
    """Compute ``sums /= divisors``, in place.

    Parameters
    ----------
    sums
        Lines (K, d, h, w), each at most once.
    divisors
        Shape (d, h, w), float32, contiguous.
    threads
        Number of threads.
    """
    pointers = sums._pointers()
    args = DivideLinesArgs(
        channels=sums.memory.shape[1],
        count=pointers.size,
        width=divisors.shape[2],
        divisors=divisors.ctypes.data,
        lines=pointers.ctypes.data,
        channel_stride=sums._channel_stride,
    )
    call_kernel("sgmf_divide_lines", args, threads)


def resample_labels(
    logits: LogitLines,
    taps: Sequence[AxisTaps],
    *,
    regions: Sequence[int] | None = None,
    threads: int,
) -> npt.NDArray[np.uint16]:
    """Choose labels on another grid, without storing logits there.

    Parameters
    ----------
    logits
        Lines of logits (K, d, h, w), float32.
    taps
        Interpolation for each axis of the target.
    regions
        Value that each channel paints, in order; None chooses the largest logit, the first of
        equals.
    threads
        Number of threads.

    Returns
    -------
    ndarray
        uint16, with the length of each of `taps`: the labels of all logits resampled in float64 and
        rounded to float32.
    """
    labels = np.empty([len(axis) for axis in taps], np.uint16)
    values = None if regions is None else np.array(regions, np.uint16)
    pointers = logits._pointers()
    _, channels, width = logits.memory.shape
    args = LabelResampleArgs(
        lines=pointers.ctypes.data,
        channels=channels,
        channel_stride=logits._channel_stride,
        depth=logits.places.shape[0],
        height=logits.places.shape[1],
        width=width,
        taps=tuple(axis._struct for axis in taps),
        regions=None if values is None else values.ctypes.data,
        labels=labels.ctypes.data,
    )
    call_kernel("sgmf_label_resample", args, threads)
    return labels


def _element_strides(array: Logits) -> tuple[int, ...]:
    """Return the strides of all axes but the last, in elements."""
    return tuple(stride // array.itemsize for stride in array.strides[:-1])
