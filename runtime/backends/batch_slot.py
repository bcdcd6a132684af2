"""Memory through which a batch of tiles and its logits pass to a device and back."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.bindings.cuda_driver import CudaDevice, Event, Stream


class BatchSlot:
    """Memory for one batch and its stream."""

    def __init__(
        self,
        device: CudaDevice,
        batch: int,
        tile_shape: tuple[int, ...],
        logits_shape: tuple[int, ...],
    ):
        self.tiles = device.allocate_pinned((batch, *tile_shape))
        self.logits = device.allocate_pinned((batch, *logits_shape))
        self.tiles_on_device = device.allocate(self.tiles.array.nbytes)
        self.logits_on_device = device.allocate(self.logits.array.nbytes)
        self.stream = Stream(device)
        self.computed = Event(device)
        self.used = Event(device)

    def send(self, tiles: np.ndarray) -> None:
        """Start copying tiles (B, C, D, H, W), float32, after those before have left."""
        self.stream.synchronize()
        self.tiles.array[: len(tiles)] = tiles
        size = self.tiles.array[: len(tiles)].nbytes
        self.stream.copy_in(self.tiles_on_device, self.tiles, size)

    def fetch(self, count: int) -> None:
        """Start copying the logits of `count` tiles back."""
        size = self.logits.array[:count].nbytes
        self.stream.copy_out(self.logits, self.logits_on_device, size)

    def collect(self, target: np.ndarray) -> None:
        """Wait for the logits and write them to `target` (B, K, D, H, W), float32."""
        self.stream.synchronize()
        target[...] = self.logits.array[: len(target)]
