"""Session around an engine, shared by TensorRT and TensorRT-RTX."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.backends.tensorrt.runner import EngineRunner
from segmaformer.runtime.pipeline.device_network import DeviceNetwork


class EngineSession:
    """An opened engine.

    Parameters
    ----------
    runner
        Engine with its memory on the device.
    description
        Version, device and variant, as shown to people.
    identity
        Text that changes with everything that the numbers depend on.

    Attributes
    ----------
    description
        Version, device, variant and batch.
    identity
        Identity as given.
    """

    overlap = True
    coarse = None

    def __init__(self, runner: EngineRunner, description: str, identity: str):
        self._runner = runner
        self.description = f"{description}, batch {runner.batch}"
        self.identity = identity

    @property
    def resident(self) -> DeviceNetwork:
        """Network with its logits left, unchecked, on the device."""
        return self._runner.resident

    @property
    def tiles_at_once(self) -> int:
        """Number of tiles for one call of :meth:`run` that fills the device."""
        return self._runner.tiles_at_once

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The device failed.
        """
        return self._runner.run(tiles)
