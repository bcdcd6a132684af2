"""Sums of logits on a CUDA device: tiles are added where the network left them.

Only labels come back. The kernels compute the same as those of the processor, bit for bit.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.cuda_driver import CudaDevice, DeviceMemory, Event, Stream
from segmaformer.runtime.bindings.cuda_library import enqueue
from segmaformer.runtime.bindings.kernel_structs import (
    AxisTapsArgs,
    BlendTileArgs,
    DivideLinesArgs,
    LabelResampleArgs,
)
from segmaformer.runtime.bindings.kernels import AxisTaps, Logits
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline.host_lines import Places
from segmaformer.runtime.pipeline.tiling import cut_tile
from segmaformer.runtime.spec import Box, Triple

LABEL_BYTES = 16 << 20
"""Number of labels computed at once; a single plane may have more."""

_ALIGNMENT = 16
_FLOAT = np.dtype(np.float32).itemsize


@dataclass(frozen=True, eq=False)
class DeviceLogits:
    """Logits (K, *tile) of one tile on a device, float32 and dense.

    Attributes
    ----------
    address
        Address of the first logit on the device.
    computed
        Event that is triggered when the logits are complete.
    used
        Event to record when the logits are no longer needed.
    """

    address: int
    computed: Event
    used: Event


@dataclass(frozen=True)
class DeviceNetwork:
    """A network that leaves its logits on a device.

    Attributes
    ----------
    device
        Device that runs it.
    run
        Function from tiles (B, C, *tile), float32, to the logits of each, which must be used before
        the next call. B is at most `tiles_at_once`.
    """

    device: CudaDevice
    run: Callable[[np.ndarray], Generator[DeviceLogits, None, None]]
    tiles_at_once: int

    def before_each(self, call: Callable[[], None]) -> DeviceNetwork:
        """Return the same network with `call` before each run."""

        def run(tiles: np.ndarray) -> Generator[DeviceLogits, None, None]:
            call()
            return self.run(tiles)

        return replace(self, run=run)

    def logits(
        self, image: np.ndarray, place: Box, boxes: Sequence[Box]
    ) -> Generator[DeviceLogits, None, None]:
        """Yield the logits (K, *tile) of one tile after the other.

        Close the generator if it is not exhausted: a network whose logits are pending serves nobody
        else.

        Parameters
        ----------
        image
            Shape (C, D, H, W), float32.
        place
            Place of the image, in the coordinates of `boxes`; tiles may reach beyond.
        boxes
            Tiles in order.
        """
        for first in range(0, len(boxes), self.tiles_at_once):
            some = boxes[first : first + self.tiles_at_once]
            with closing(self.run(np.stack([cut_tile(image, box, place) for box in some]))) as run:
                yield from run


def lines_bytes(capacity: int, channels: int, width: int, tile: Triple) -> int:
    """Return the bytes that :class:`DeviceLines` takes, without tables and very large planes."""
    rows = tile[0] * tile[1]
    scratch = max(rows * (width * _FLOAT + ctypes.sizeof(ctypes.c_void_p)), LABEL_BYTES)
    return (capacity * channels * width + math.prod(tile)) * _FLOAT + scratch


class DeviceLines:
    """Lines in device memory; see :class:`segmaformer.runtime.pipeline.host_lines.Lines`.

    Parameters
    ----------
    device
        Device whose memory to use.
    capacity, channels, width
        Number of lines, channels of each, and voxels along a line.
    weights
        Weights of the voxels of a tile, shape (D, H, W), float32.

    Raises
    ------
    BackendError
        The device has too little memory.
    """

    def __init__(
        self, device: CudaDevice, capacity: int, channels: int, width: int, weights: Logits
    ):
        self._device, self._channels, self._width = device, channels, width
        self._tile = weights.shape
        self._stream = Stream(device)
        self._memory = device.allocate(capacity * channels * width * _FLOAT)
        self._weights = device.allocate(weights.nbytes)
        self._not_finite = device.allocate(np.dtype(np.int32).itemsize)
        self._scratch = device.allocate(_ALIGNMENT)
        # Arrays on their way to the device.
        self._sent: list[np.ndarray] = []
        self._send(self._weights.address, weights)
        self._send(self._not_finite.address, np.zeros(1, np.int32))

    def clear(self, lines: Sequence[int]) -> None:
        """Set lines to zero; all methods are those of the class ``Lines``."""
        (pointers,), _ = self._put(self._pointers(np.array(lines, np.int64)))
        enqueue(
            "sgmf_clear_lines_cuda",
            pointers,
            len(lines),
            self._channels * self._width,
            self._stream.handle,
        )

    def add(  # noqa: D102
        self, places: Places, columns: slice, logits: DeviceLogits, inside: Box
    ) -> None:
        depth, height, width = self._tile
        first = ((inside[0].start * height) + inside[1].start) * width + inside[2].start
        (pointers,), _ = self._put(self._pointers(places, columns.start))
        args = BlendTileArgs(
            channels=self._channels,
            extent=tuple(side.stop - side.start for side in inside),
            logits=logits.address + first * _FLOAT,
            logits_stride=(depth * height * width, height * width, width),
            weights=self._weights.address + first * _FLOAT,
            weights_stride=(height * width, width),
            lines=pointers,
            channel_stride=self._width,
        )
        self._stream.wait_for(logits.computed)
        enqueue(
            "sgmf_blend_tile_cuda",
            ctypes.byref(args),
            self._not_finite.address,
            self._stream.handle,
        )
        self._stream.record(logits.used)

    def divide(self, places: Places, divisors: Logits) -> None:  # noqa: D102
        if not places.size:
            return
        (lines, values), _ = self._put(self._pointers(places), divisors)
        args = DivideLinesArgs(
            channels=self._channels,
            count=places.size,
            width=self._width,
            divisors=values,
            lines=lines,
            channel_stride=self._width,
        )
        enqueue("sgmf_divide_lines_cuda", ctypes.byref(args), self._stream.handle)

    def labels(
        self, places: Places, taps: Sequence[AxisTaps], regions: Sequence[int] | None
    ) -> npt.NDArray[np.uint16]:
        """Compute labels, and wait for the device.

        Raises
        ------
        BackendError
            The device failed, or some logits were NaN or infinite.
        """
        depth, height, width = taps
        labels = np.empty([len(axis) for axis in taps], np.uint16)
        plane = max(1, labels.nbytes // max(1, len(depth)))
        planes = max(1, LABEL_BYTES // plane)
        for start in range(0, len(depth), planes):
            stop = min(start + planes, len(depth))
            part = (depth.part(start, stop, 0), height, width)
            self._label(labels[start:stop], places, part, regions)
        self._check_finite()
        return labels

    def _label(
        self,
        labels: npt.NDArray[np.uint16],
        places: Places,
        taps: Sequence[AxisTaps],
        regions: Sequence[int] | None,
    ) -> None:
        tables = [table for axis in taps for table in (axis.low, axis.high, axis.weight)]
        painted = np.array(regions or (), np.uint16)
        (lines, values, *sent), found = self._put(
            self._pointers(places), painted, *tables, room=labels.nbytes
        )
        args = LabelResampleArgs(
            lines=lines,
            channels=self._channels,
            channel_stride=self._width,
            depth=places.shape[0],
            height=places.shape[1],
            width=self._width,
            taps=(AxisTapsArgs * 3)(
                *(AxisTapsArgs(len(axis), *sent[3 * i : 3 * i + 3]) for i, axis in enumerate(taps))
            ),
            regions=None if regions is None else values,
            labels=found,
        )
        enqueue("sgmf_label_resample_cuda", ctypes.byref(args), self._stream.handle)
        self._stream.download(labels, found)

    def _check_finite(self) -> None:
        flag = np.zeros(1, np.int32)
        self._stream.download(flag, self._not_finite.address)
        self._wait()
        if flag[0]:
            raise BackendError(
                f"logits on {self._device.facts.name} are NaN or infinite; run the fp32 variant, "
                "and check the scan's intensities if it fails as well"
            )

    def _pointers(self, places: Places, column: int = 0) -> npt.NDArray[np.uint64]:
        first = places.ravel() * (self._channels * self._width) + column
        return np.uint64(self._memory.address) + (first * _FLOAT).astype(np.uint64)

    def _put(self, *arrays: np.ndarray, room: int = 0) -> tuple[list[int], int]:
        """Send arrays for the next kernel; return their addresses, and that of `room` bytes behind.

        The arrays of the kernel before are overwritten once it is done.
        """
        sizes = [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays]
        offsets = [*itertools.accumulate(sizes, initial=0)]
        base = self._scratch_of(offsets[-1] + room).address
        for offset, array in zip(offsets, arrays, strict=False):
            if array.size:
                self._send(base + offset, array)
        addresses = [base + offset for offset in offsets]
        return addresses[:-1], addresses[-1]

    def _scratch_of(self, size: int) -> DeviceMemory:
        if self._scratch.size < size:
            self._wait()
            del self._scratch  # free it before allocating more
            self._scratch = self._device.allocate(size)
        return self._scratch

    def _send(self, address: int, array: np.ndarray) -> None:
        array = np.ascontiguousarray(array)
        self._sent.append(array)
        self._stream.upload(address, array)

    def _wait(self) -> None:
        self._stream.synchronize()
        self._sent.clear()
