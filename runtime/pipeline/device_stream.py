"""Lines of logits of the native pipeline, in memory of a device."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any

import numpy as np

from segmaformer.runtime.bindings.callbacks import array_at
from segmaformer.runtime.bindings.kernels import AxisTaps, Logits
from segmaformer.runtime.bindings.label_task import (
    SUMS_BYTES,
    DeviceMemoryArgs,
    box_of,
    integers_at,
)
from segmaformer.runtime.pipeline.device_lines import (
    DeviceLines,
    DeviceLogits,
    DeviceNetwork,
    lines_bytes,
)
from segmaformer.runtime.pipeline.tiling import tile_weights
from segmaformer.runtime.spec import Output, Tiling, Triple


def device_memory(device: DeviceNetwork, tile: Triple, output: Output) -> DeviceMemoryArgs:
    """Return the memory on a device that the sums of logits may take."""

    def sums_bytes(_user: Any, lines: int, width: int) -> int:
        return lines_bytes(lines, output.channels, width, tile)

    facts = device.device.facts
    return DeviceMemoryArgs(
        facts.name.encode(),
        device.device.free_bytes(),
        facts.integrated,
        SUMS_BYTES(sums_bytes),
    )


class DeviceStream:
    """Path of tiles on a device, up to labels; its methods are callbacks.

    Close it, as a context: after an error the network must not wait for its logits to be used.

    Parameters
    ----------
    device
        Network that runs the tiles.
    image
        Shape (C, D, H, W), float32.
    tiling, output
        Tiling and output of the package.
    labels
        Array to be filled, on the target grid.
    """

    def __init__(
        self,
        device: DeviceNetwork,
        image: Logits,
        tiling: Tiling,
        output: Output,
        labels: np.ndarray,
    ):
        self._device, self._image, self._labels = device, image, labels
        self._weights = tile_weights(tiling)
        self._channels = output.channels
        self._regions = [region.value for region in output.regions] or None
        self._logits: Generator[DeviceLogits, None, None] | None = None
        self._tile: DeviceLogits | None = None
        self._lines: DeviceLines | None = None
        self._width = 0

    def __enter__(self) -> DeviceStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines = None
        if self._logits is not None:
            self._logits.close()

    def start(self, tiles: int, count: int, place: int) -> None:
        """Receive the tiles that will be run."""
        boxes = [box_of(edges) for edges in integers_at(tiles, count, 6)]
        self._logits = self._device.logits(self._image, box_of(integers_at(place, 6)), boxes)

    def begin(self, capacity: int, width: int) -> None:
        """Allocate memory, after freeing that of the block before."""
        self._lines, self._width = None, width
        shape = (capacity, self._channels, width)
        self._lines = DeviceLines(self._device.device, *shape, self._weights)

    def clear(self, lines: int, count: int) -> None:
        """Set lines to zero."""
        self._memory.clear(integers_at(lines, count).tolist())

    def next_tile(self) -> None:
        """Run the next tile."""
        if self._logits is None:
            raise RuntimeError("tiles are asked for before they are known")
        self._tile = next(self._logits)

    def add(self, lines: int, depth: int, height: int, column: int, inside: int) -> None:
        """Add a part of that tile to lines."""
        if self._tile is None:
            raise RuntimeError("there is no tile to add")
        part = box_of(integers_at(inside, 6))
        columns = slice(column, column + part[2].stop - part[2].start)
        self._memory.add(integers_at(lines, depth, height), columns, self._tile, part)

    def divide(self, lines: int, depth: int, height: int, divisors: int) -> None:
        """Divide lines by (depth, height, width) numbers."""
        values = array_at(divisors, np.float32, depth, height, self._width).copy()
        self._memory.divide(integers_at(lines, depth, height), values)

    def finish(self, pointer: Any) -> None:
        """Fill in labels of finished lines."""
        finished = pointer.contents
        taps = [AxisTaps.of(axis) for axis in finished.taps]
        self._labels[finished.box] = self._memory.labels(finished.places, taps, self._regions)

    @property
    def _memory(self) -> DeviceLines:
        if self._lines is None:
            raise RuntimeError("there is no memory for lines")
        return self._lines
