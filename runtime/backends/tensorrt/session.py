"""A network in an engine, as a session: what TensorRT and TensorRT-RTX have in common."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.backends.tensorrt.runner import EngineRunner
from segmaformer.runtime.pipeline.device_lines import DeviceNetwork


class EngineSession:
    """An opened engine.

    Parameters
    ----------
    runner
        The engine with its memory on the device.
    description
        Version, device and variant, as shown to people.
    identity
        Changes with everything that the numbers depend on.

    Attributes
    ----------
    description
        With the batch.
    identity
        As given.
    """

    overlap = True
    coarse = None

    def __init__(self, runner: EngineRunner, description: str, identity: str):
        self._runner = runner
        self.description = f"{description}, batch {runner.batch}"
        self.identity = identity

    @property
    def resident(self) -> DeviceNetwork:
        """The network with its logits left on the device, unchecked."""
        return self._runner.resident

    @property
    def tiles_at_once(self) -> int:
        """Tiles for one call of :meth:`run` that fill the device."""
        return self._runner.tiles_at_once

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The device failed.
        """
        return self._runner.run(tiles)
