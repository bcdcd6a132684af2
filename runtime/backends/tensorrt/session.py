"""Session of a deserialised TensorRT or TensorRT-RTX engine, which runs batches of tiles.

Two slots of pinned and device memory, each with its own stream, take turns: while one computes, the
tiles of the next are copied in and the logits of the last out. The engine's scratch memory exists
once, so computations follow each other by an event.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segmaformer.runtime.backends.batch_slot import BatchSlot
from segmaformer.runtime.backends.session import NetworkKind
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.bindings.cuda_driver import CudaDevice
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.device_network import DeviceLogits, DeviceNetwork

SLOTS = 2


class EngineSession:
    """An engine with its memory on a device.

    May be called from several threads; their batches run one after the other.

    Parameters
    ----------
    trt
        The module ``tensorrt`` or ``tensorrt_rtx``.
    content
        Checked engine.
    device
        Device to run on.
    manifest
        Manifest of the package, to check the engine's inputs and outputs.
    messages
        Receives the messages of the module's objects.
    kind
        Backend, device and variant.
    description
        Version, device and variant, as shown to people.
    identity
        Text that changes with everything that the numbers depend on.

    Attributes
    ----------
    description
        Version, device, variant and batch.
    kind, identity
        As given.
    batch
        Largest number of tiles that the engine takes at once.

    Raises
    ------
    BackendError
        The engine cannot be opened, does not fit the package, or the device has too little memory.
    """

    overlap = True
    coarse = None

    def __init__(
        self,
        trt: ModuleType,
        content: bytes,
        device: CudaDevice,
        manifest: Manifest,
        messages: Messages,
        *,
        kind: NetworkKind,
        description: str,
        identity: str,
    ):
        self._device, self._messages = device, messages
        device.activate()
        self._runtime = messages.start("Runtime")
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise BackendError(f"the engine cannot be opened: {messages.errors()}; build it again")
        shapes = manifest.input_shape, manifest.logits_shape
        self._input, self._output = _check_interface(trt, engine, shapes)
        self.batch = int(engine.get_tensor_profile_shape(self._input, 0)[2][0])
        self.kind = kind
        self.description, self.identity = f"{description}, batch {self.batch}", identity
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"the engine cannot get its memory on {device.facts.name}: {messages.errors()}. "
                "End other programs on the device, or build with a smaller --batch"
            )
        self._engine = engine
        self._slots = [BatchSlot(device, self.batch, *shapes) for _ in range(SLOTS)]
        self._lock = threading.Lock()

    @property
    def tiles_at_once(self) -> int:
        """Number of tiles for one call that keeps copies and computations overlapped."""
        return SLOTS * self.batch

    @property
    def resident(self) -> DeviceNetwork:
        """The engine as a network that leaves its logits on the device."""
        return DeviceNetwork(self._device, self.run_resident, self.tiles_at_once)

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32; any B.

        Raises
        ------
        BackendError
            The device failed.
        """
        with self._lock:
            self._device.activate()
            logits = np.empty((len(tiles), *self._slots[0].logits.array.shape[1:]), np.float32)
            try:
                self._run(tiles, logits)
            finally:
                # After an error, no pending work may use the slots' memory.
                for slot in self._slots:
                    slot.stream.synchronize()
            return logits

    def run_resident(self, tiles: np.ndarray) -> Generator[DeviceLogits, None, None]:
        """Yield the logits of tiles (B, C, D, H, W) float32 one by one, where they are computed.

        Other threads wait until the iterator is exhausted or closed. The caller records the event
        of each tile's logits before that.

        Parameters
        ----------
        tiles
            Shape (B, C, D, H, W), float32; B at most `tiles_at_once`.

        Raises
        ------
        BackendError
            The device failed.
        """
        with self._lock:
            self._device.activate()
            parts = [
                tiles[first : first + self.batch] for first in range(0, len(tiles), self.batch)
            ]
            for slot, part in zip(self._slots, parts, strict=False):
                slot.send(part)
                self._compute(slot, len(part))
            for slot, part in zip(self._slots, parts, strict=False):
                size = slot.logits.array[0].nbytes
                for index in range(len(part)):
                    address = slot.logits_on_device.address + index * size
                    yield DeviceLogits(address, slot.computed, slot.used)

    def _run(self, tiles: np.ndarray, logits: np.ndarray) -> None:
        pending: dict[BatchSlot, np.ndarray] = {}
        slots = itertools.cycle(self._slots)
        for start in range(0, len(tiles), self.batch):
            slot = next(slots)
            if slot in pending:
                slot.collect(pending.pop(slot))
            part = slice(start, start + self.batch)
            slot.send(tiles[part])
            self._compute(slot, len(tiles[part]))
            slot.fetch(len(tiles[part]))
            pending[slot] = logits[part]
        for slot, target in pending.items():
            slot.collect(target)

    def _compute(self, slot: BatchSlot, count: int) -> None:
        for other in self._slots:
            slot.stream.wait_for(other.computed)
        slot.stream.wait_for(slot.used)
        context = self._context
        shape = (count, *slot.tiles.array.shape[1:])
        accepted = (
            context.set_input_shape(self._input, shape)
            and context.set_tensor_address(self._input, slot.tiles_on_device.address)
            and context.set_tensor_address(self._output, slot.logits_on_device.address)
            and context.execute_async_v3(slot.stream.handle)
        )
        if not accepted:
            raise BackendError(
                f"{self._device.facts.name} refused a batch of {shape}: {self._messages.errors()}"
            )
        slot.stream.record(slot.computed)


def _check_interface(
    trt: ModuleType, engine: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[str, str]:
    """Return the names of input and output, after comparing them with the manifest."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    for what, found, expected in zip(("takes", "gives"), (inputs, outputs), shapes, strict=True):
        _check_tensors(trt, engine, what, found, expected)
    return inputs[0], outputs[0]


def _check_tensors(
    trt: ModuleType, engine: Any, what: str, names: Sequence[str], expected: tuple[int, ...]
) -> None:
    shapes = [tuple(engine.get_tensor_shape(name))[1:] for name in names]
    types = [engine.get_tensor_dtype(name) for name in names]
    if shapes != [expected] or types != [trt.DataType.FLOAT]:
        raise BackendError(
            f"the engine {what} {shapes} of {types}; the manifest says {expected} of float32 "
            "behind the batch. Build the engine again"
        )
