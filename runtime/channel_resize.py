"""Resizing one channel axis by axis, a few planes at a time.

Planes are read, resized and kept only as far as the spline across them reaches, however
many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.axis_kernel import AxisOperator, resample_axis
from segmaformer.runtime.cropping import Box

Planes = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Bounds = tuple[Values, Values]

_PART_VOXELS = 1 << 21


class Channel(Protocol):
    """What is resized: an array (D, H, W), float32, or what gives parts as such arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""

    def __getitem__(self, box: Box, /) -> Planes:
        """Voxels inside a box."""


@dataclass(frozen=True, eq=False)
class ChannelResize:
    """A resize of channels that all have one shape.

    Attributes
    ----------
    operators
        For D, H and W; None where the length stays.
    separate
        Axis whose slices are resized each on its own, before they are resized across;
        None where all axes go together. Values are clipped to the range of what was
        resized together: the slice or the channel.
    threads
        Threads to use; 0 takes every available processor.
    """

    operators: tuple[AxisOperator | None, ...]
    separate: int | None
    threads: int

    def run(self, source: Channel, target: Planes) -> None:
        """Fill `target` (D', H', W'), float32, from `source`.

        Source plane i is kept at i modulo `kept`, resized along its own axes, in float64.
        No part wraps around: `kept` is a multiple of its length or every plane.
        """
        stack = _Stack(source, self._outer)
        result = np.moveaxis(target, self._outer, 0)
        across = self.operators[self._outer] or AxisOperator.identity(len(stack))
        step = max(1, _PART_VOXELS // max(stack.plane_size, result[0].size))
        kept = min(len(stack), step * (1 + -(-(across.reach - 1) // step)))
        ring = np.empty((kept, *result.shape[1:]))
        needed = across.needed
        bounds = self._bounds(stack, step)
        done = 0
        for begin, planes in stack.parts(step):
            place, end = begin % kept, begin + len(planes)
            self._resize_planes(planes, ring[place : place + len(planes)])
            ready = int(np.searchsorted(needed, end, side="right"))
            if ready > done:
                self._resize_across(
                    ring, across.part(done, ready, kept), result[done:ready], bounds
                )
                done = ready

    @property
    def _outer(self) -> int:
        return self.separate or 0

    @property
    def _overshoots(self) -> bool:
        """Whether results may leave the range of the source."""
        return any(operator is not None and operator.overshoots for operator in self.operators)

    def _bounds(self, stack: _Stack, step: int) -> Bounds | None:
        """Range of the whole channel, where all axes go together and splines overshoot."""
        if self.separate is not None or not self._overshoots:
            return None
        ranges = [(planes.min(), planes.max()) for _, planes in stack.parts(step)]
        low, high = np.array(ranges, np.float64).T
        return low.min(keepdims=True), high.max(keepdims=True)

    def _resize_planes(self, planes: Planes, target: Values) -> None:
        """Resize float32 planes (n, H, W) along their own axes."""
        inner = [axis for axis in range(3) if axis != self._outer]
        steps = [
            (operator, place)
            for place, axis in enumerate(inner, start=1)
            if (operator := self.operators[axis]) is not None
        ]
        if not steps:
            target[...] = planes
            return
        steps.sort(key=_shrinking_first)
        values: Planes | Values = planes
        for operator, place in steps[:-1]:
            shape = list(values.shape)
            shape[place] = len(operator)
            resized = np.empty(shape)
            resample_axis(values, operator, place, resized, threads=self.threads)
            values = resized
        operator, place = steps[-1]
        bounds = None
        if self.separate is not None and self._overshoots:
            rows = values.shape[1] if place == 2 else 1
            bounds = _range_of_planes(planes, rows)
        resample_axis(values, operator, place, target, bounds=bounds, threads=self.threads)

    def _resize_across(
        self, ring: Values, across: AxisOperator, target: Planes, bounds: Bounds | None
    ) -> None:
        """Fill `target` (m, H', W') from the planes that are kept."""
        direct = target.flags.c_contiguous
        result = target if direct else np.empty(target.shape, np.float32)
        resample_axis(ring, across, 0, result, bounds=bounds, threads=self.threads)
        if not direct:
            target[...] = result


class _Stack:
    """A channel as planes across one of its axes."""

    def __init__(self, channel: Channel, outer: int):
        self._channel = channel
        self._outer = outer

    def __len__(self) -> int:
        return self._channel.shape[self._outer]

    @property
    def plane_size(self) -> int:
        return int(np.prod(self._channel.shape)) // len(self)

    def parts(self, count: int) -> Iterator[tuple[int, Planes]]:
        """Index of the first and planes (n, H, W) in C order, up to `count` at a time.

        The next ones are read while these are in use.
        """
        begins = range(0, len(self), count)
        with ThreadPoolExecutor(1, "planes") as ahead:
            upcoming = ahead.submit(self._read, 0, count)
            for begin in begins:
                planes = upcoming.result()
                if begin + count < len(self):
                    upcoming = ahead.submit(self._read, begin + count, count)
                yield begin, planes

    def _read(self, begin: int, count: int) -> Planes:
        some, every = slice(begin, begin + count), slice(None)
        depth, height, width = (some if axis == self._outer else every for axis in range(3))
        planes = self._channel[depth, height, width]
        return np.ascontiguousarray(np.moveaxis(planes, self._outer, 0))


def _range_of_planes(planes: Planes, rows: int) -> Bounds:
    """Least and largest value of each plane, repeated for each of its rows."""
    low, high = (
        bound.astype(np.float64).repeat(rows)
        for bound in (planes.min(axis=(1, 2)), planes.max(axis=(1, 2)))
    )
    return low, high


def _shrinking_first(step: tuple[AxisOperator, int]) -> tuple[bool, int]:
    """Order of axes: shrink before growing; in both, what is contiguous in memory first."""
    operator, place = step
    return len(operator) > operator.length, -place
