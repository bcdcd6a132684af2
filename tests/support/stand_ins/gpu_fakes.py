# ruff: noqa: N802, N815  (the names are the driver's and TensorRT's)
"""Stand-ins for a driver and a TensorRT that need no GPU.

Streams run as late as they may: an operation happens when its stream is waited for, or when
another stream's work depends on it. Whoever reads a result before waiting, or reuses memory
that is still needed, gets wrong numbers, as on a device.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

NO_DEVICE, OUT_OF_MEMORY = 100, 2
TEXTS = {
    NO_DEVICE: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    OUT_OF_MEMORY: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    700: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
}


@dataclass
class FakeDriver:
    """Stand-in for ``libcuda``; its functions take what ctypes would pass on.

    Attributes
    ----------
    failing
        Error code by the name of a function.
    calls
        Names in order.
    held
        Live memory, streams and events by handle.
    """

    _name = "libcuda_pretended.so"
    name: str = "Fake GPU"
    capability: tuple[int, int] = (8, 7)
    memory_bytes: int = 128 << 20
    devices: int = 1
    failing: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    held: dict[int, Any] = field(default_factory=dict)
    _handles: Any = field(default_factory=lambda: itertools.count(1))

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("cu"):
            return super().__getattribute__(name)
        function = super().__getattribute__(f"_{name.removesuffix('_v2')}")
        self.calls.append(name)
        return (lambda *_: self.failing[name]) if name in self.failing else function

    def enqueue(self, stream: int, work: Callable[[], Any]) -> None:
        """Let a stream call `work` when it comes to it."""
        self.held[stream].add(work)

    def used_bytes(self) -> int:
        return sum(ctypes.sizeof(h) for h in self.held.values() if isinstance(h, ctypes.Array))

    def _give(self, pointer: Any, value: Any) -> int:
        pointer._obj.value = value
        return 0

    def _new(self, pointer: Any, thing: Any) -> int:
        handle = next(self._handles)
        self.held[handle] = thing
        return self._give(pointer, handle)

    def _cuInit(self, flags: Any) -> int:
        return 0

    def _cuDriverGetVersion(self, version: Any) -> int:
        return self._give(version, 12060)

    def _cuGetErrorName(self, code: Any, text: Any) -> int:
        return self._give(text, TEXTS[code.value][0].encode())

    def _cuGetErrorString(self, code: Any, text: Any) -> int:
        return self._give(text, TEXTS[code.value][1].encode())

    def _cuDeviceGetCount(self, count: Any) -> int:
        return self._give(count, self.devices)

    def _cuDeviceGet(self, device: Any, index: Any) -> int:
        return self._give(device, index.value)

    def _cuDeviceGetName(self, name: Any, size: Any, device: Any) -> int:
        name.value = self.name.encode()
        return 0

    def _cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:
        known = {75: self.capability[0], 76: self.capability[1], 16: 16, 18: 1}
        return self._give(value, known[attribute.value])

    def _cuDeviceTotalMem(self, size: Any, device: Any) -> int:
        return self._give(size, self.memory_bytes)

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        return self._new(context, "context")

    def _cuDevicePrimaryCtxRelease(self, device: Any) -> int:
        return 0

    def _cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def _cuMemGetInfo(self, free: Any, total: Any) -> int:
        self._give(total, self.memory_bytes)
        return self._give(free, self.memory_bytes - self.used_bytes())

    def _cuMemAlloc(self, address: Any, size: Any) -> int:
        if self.used_bytes() + size.value > self.memory_bytes:
            return OUT_OF_MEMORY
        block = (ctypes.c_char * size.value)()
        self.held[ctypes.addressof(block)] = block
        return self._give(address, ctypes.addressof(block))

    def _cuMemHostAlloc(self, address: Any, size: Any, flags: Any) -> int:
        return self._cuMemAlloc(address, size)

    def _forget(self, handle: Any) -> int:
        del self.held[handle.value]
        return 0

    _cuMemFree = _cuMemFreeHost = _cuStreamDestroy = _cuEventDestroy = _forget

    def _cuStreamCreate(self, stream: Any, flags: Any) -> int:
        return self._new(stream, FakeStream())

    def _cuEventCreate(self, event: Any, flags: Any) -> int:
        return self._new(event, SimpleNamespace(point=None))

    def _cuMemcpyHtoDAsync(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        to, of, count = target.value, source.value, size.value
        self.held[stream.value].add(lambda: ctypes.memmove(to, of, count))
        return 0

    def _cuMemcpyDtoHAsync(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        return self._cuMemcpyHtoDAsync(target, source, size, stream)

    def _cuEventRecord(self, event: Any, stream: Any) -> int:
        work = self.held[stream.value]
        self.held[event.value].point = (work, work.length)
        return 0

    def _cuStreamWaitEvent(self, stream: Any, event: Any, flags: Any) -> int:
        point = self.held[event.value].point
        if point is not None:
            self.held[stream.value].add(lambda: point[0].run(point[1]))
        return 0

    def _cuStreamSynchronize(self, stream: Any) -> int:
        self.held[stream.value].run()
        return 0


class FakeStream:
    """Operations in order, each run when it must be, by any thread."""

    _running = threading.RLock()

    def __init__(self) -> None:
        self._operations: list[Callable[[], Any]] = []
        self._done = 0

    @property
    def length(self) -> int:
        return len(self._operations)

    def add(self, operation: Callable[[], Any]) -> None:
        self._operations.append(operation)

    def run(self, until: int | None = None) -> None:
        until = self.length if until is None else until
        with self._running:
            while self._done < until:
                self._done += 1
                self._operations[self._done - 1]()


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class FakeLogger:
    Severity = Severity

    def log(self, severity: Severity, text: str) -> None:
        raise NotImplementedError


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = range(2)


class DataType(enum.Enum):
    FLOAT, HALF = range(2)


@dataclass
class FakeTensorRt:
    """Stand-in for the module ``tensorrt``; `compute` stands for every engine.

    Attributes
    ----------
    driver
        A :class:`FakeDriver`, or another with its ``enqueue``.
    compute
        Logits of a batch of tiles.
    """

    driver: Any
    tile_shape: tuple[int, ...]
    logits_shape: tuple[int, ...]
    compute: Callable[[np.ndarray], np.ndarray]
    batch: int = 1
    types: tuple[DataType, DataType] = (DataType.FLOAT, DataType.FLOAT)
    openable: bool = True
    has_memory: bool = True
    accepts: bool = True
    plugin_loads: bool = True
    __version__: str = "10.3.0"
    batches: list[int] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.__name__ = "tensorrt"

    ILogger = FakeLogger
    TensorIOMode = TensorIOMode
    DataType = DataType

    def Runtime(self, logger: FakeLogger) -> SimpleNamespace:
        def deserialize(content: bytes) -> Any:
            self.opened.append(content)
            if self.openable:
                return self._engine_of(content, logger)
            logger.log(Severity.ERROR, "the magic tag does not match")
            return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def get_plugin_registry(self) -> SimpleNamespace:
        def load(path: str) -> str | None:
            if not self.plugin_loads or path in self.loaded:
                return None
            self.loaded.append(path)
            return "handle"

        return SimpleNamespace(
            load_library=load, get_creator=lambda *_: "creator" if self.loaded else None
        )

    def _engine_of(self, content: bytes, logger: FakeLogger) -> Any:
        return self._engine(logger)

    def _engine(self, logger: FakeLogger) -> SimpleNamespace:
        names = ["tiles", "logits"]
        shapes = dict(zip(names, (self.tile_shape, self.logits_shape), strict=True))

        def create_context() -> FakeContext | None:
            if not self.has_memory:
                logger.log(Severity.ERROR, "out of memory")
            return FakeContext(self, logger) if self.has_memory else None

        return SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda n: TensorIOMode.INPUT if n == "tiles" else TensorIOMode.OUTPUT,
            get_tensor_shape=lambda n: (-1, *shapes[n]),
            get_tensor_dtype=lambda n: self.types[names.index(n)],
            get_tensor_profile_shape=lambda n, _: [
                (size, *shapes[n]) for size in (1, self.batch, self.batch)
            ],
            create_execution_context=create_context,
        )


class FakeContext:
    """Context that runs `compute` in a stream, with scratch memory for one run at a time."""

    def __init__(self, trt: FakeTensorRt, logger: FakeLogger):
        self._trt, self._logger = trt, logger
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return 1 <= shape[0] <= self._trt.batch

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not self._trt.accepts:
            self._logger.log(Severity.ERROR, "the stream is not valid")
            return False
        count, addresses = self._shape[0], dict(self._addresses)
        self._trt.batches.append(count)

        def run() -> None:
            tiles = _view(addresses["tiles"], (count, *self._trt.tile_shape))
            _view(addresses["logits"], (count, *self._trt.logits_shape))[...] = self._trt.compute(
                tiles
            )

        self._trt.driver.enqueue(stream, run)
        return True


def _view(address: int, shape: tuple[int, ...]) -> np.ndarray:
    content = (ctypes.c_float * int(np.prod(shape))).from_address(address)
    return np.frombuffer(content, np.float32).reshape(shape)
