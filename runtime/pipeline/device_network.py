"""Networks that leave their logits on a CUDA device, where the native pipeline sums them.

Only labels come back. They are what the processor gives, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.bindings.callbacks import Callbacks, array_at
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, Event
from segmaformer.runtime.bindings.label_task import RUN_ON_DEVICE, DeviceArgs, pointer_to
from segmaformer.runtime.bindings.pipeline_call import call


@dataclass(frozen=True, eq=False)
class DeviceLogits:
    """Logits (K, *tile) of one tile on a device, float32 and dense.

    Attributes
    ----------
    address
        Of the first.
    computed
        Happens when they are there.
    used
        To be recorded when they are no longer needed.
    """

    address: int
    computed: Event
    used: Event


RunOnDevice = Callable[[np.ndarray], Generator[DeviceLogits, None, None]]


@dataclass(frozen=True)
class DeviceNetwork:
    """A device, and how tiles become logits there.

    Attributes
    ----------
    device
        The device.
    run
        Tiles (B, C, *tile), float32, to the logits of each; those stay where they are until
        the generator is closed. B is at most `tiles_at_once`, and the tiles are there until the
        first logits come.
    tiles_at_once
        Most tiles of a call.
    """

    device: CudaDevice
    run: RunOnDevice
    tiles_at_once: int

    def before_each(self, first: Callable[[], None]) -> DeviceNetwork:
        """Return the same with a call of `first` before each run."""

        def run(tiles: np.ndarray) -> Generator[DeviceLogits, None, None]:
            first()
            return self.run(tiles)

        return replace(self, run=run)


class LentLogits:
    """Logits that stay where they are as long as the native pipeline uses them.

    Close it after each run: a network whose logits are still lent serves nobody else.

    Parameters
    ----------
    network
        The network.
    tile_shape
        Shape (C, D, H, W) of its tiles.
    callbacks
        Makes the callback.

    Attributes
    ----------
    pointer
        To the structure that the native pipeline takes.
    """

    def __init__(
        self, network: DeviceNetwork, tile_shape: tuple[int, ...], callbacks: Callbacks
    ) -> None:
        self._network, self._tile_shape = network, tile_shape
        self._lent: Generator[DeviceLogits, None, None] | None = None
        self.pointer = pointer_to(_args(network.device, callbacks.guarded(self._run)))

    def close(self) -> None:
        """Give back what is lent."""
        if self._lent is not None:
            self._lent.close()
            self._lent = None

    def _run(self, _user: Any, tiles: int, count: int, logits: Any) -> None:
        self.close()
        self._lent = self._network.run(array_at(tiles, np.float32, count, *self._tile_shape))
        for index in range(count):
            found = next(self._lent)
            logits[index] = found.address, found.computed.handle, found.used.handle


def check_device_labels(device: CudaDevice) -> None:
    """Let the native pipeline label a small image on the device and on the processor.

    Raises
    ------
    BackendError
        There is no CUDA library, the device cannot run it, or other labels came out.
    """
    call("sgmf_check_device", _args(device))


def _args(device: CudaDevice, run: Callable[..., int] | None = None) -> DeviceArgs:
    kernels = bytes(cuda_library.cuda_library_path())
    callback = RUN_ON_DEVICE() if run is None else RUN_ON_DEVICE(run)
    return DeviceArgs(device.driver.path.encode(), kernels, callback)
