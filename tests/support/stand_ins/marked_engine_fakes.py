# ruff: noqa: N802  (the names are TensorRT's)
"""Engines with values in them as outputs, and the CUDA runtime for Polygraphy, without a GPU.

ONNX Runtime computes what such an engine shows, in the driver's streams that run as late as
they may. Polygraphy's own code is the real one.
"""

from __future__ import annotations

import ctypes
import enum
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from support.stand_ins.builder_fakes import FakeBuildingTensorRt
from support.stand_ins.gpu_fakes import DataType, FakeDriver, FakeLogger, TensorIOMode

from segmaformer.export.scan_op import INPUTS, scan_nodes
from segmaformer.runtime.backends.onnxruntime_cpu import open_network


class TensorFormat(enum.Enum):
    LINEAR, HWC, CHW16 = range(3)


class FakeOutputAllocator:
    """Base of allocators that give outputs their memory."""

    def __init__(self) -> None:
        self.constructed = True


@dataclass
class FakeMarkingTensorRt(FakeBuildingTensorRt):
    """Make a module whose engines are the networks that they were built from.

    Attributes
    ----------
    alter
        Changes a value that an engine computes, given its name.
    built
        Networks, in order.
    """

    alter: Callable[[str, np.ndarray], np.ndarray] = lambda name, value: value
    built: list[bytes] = field(default_factory=list)

    float32, float16, int32, int8 = DataType.FLOAT, DataType.HALF, "int32", "int8"
    TensorFormat = TensorFormat
    IOutputAllocator = FakeOutputAllocator

    def Builder(self, logger: FakeLogger) -> SimpleNamespace:
        builder = super().Builder(logger)
        build_anything = builder.build_serialized_network

        def build(network: Any, config: Any) -> bytes | None:
            if build_anything(network, config) is None:
                return None
            self.built.append(self.seen["network"])
            return self.built[-1]

        builder.build_serialized_network = build
        return builder

    def _engine_of(self, content: bytes, logger: FakeLogger) -> Any:
        outputs = [each.name for each in onnx.load_from_string(content).graph.output]
        # The engine for use is built before those that are looked into, which may show no more.
        in_use = outputs == ["logits"] and content not in self.built[1:]
        return self._engine(logger) if in_use else FakeMarkedEngine(self, content)

    @property
    def ICudaEngine(self) -> type:
        return FakeMarkedEngine

    @property
    def IExecutionContext(self) -> type:
        return FakeMarkedContext


class FakeMarkedEngine:
    """A network, its outputs and their types."""

    def __init__(self, trt: FakeMarkingTensorRt, content: bytes):
        self.trt, self.session = trt, open_network(without_plugin(content), threads=1)
        self._inputs = {each.name: each for each in self.session.get_inputs()}
        self._outputs = {each.name: each for each in self.session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = {**self._inputs, **self._outputs}[name].shape
        return tuple(each if isinstance(each, int) else -1 for each in shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        kind = {**self._inputs, **self._outputs}[name].type
        return {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}[kind]

    def get_tensor_format(self, name: str, profile: int) -> TensorFormat:
        return TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def create_execution_context(self) -> FakeMarkedContext:
        return FakeMarkedContext(self)


class FakeMarkedContext:
    """Context that asks for an output's memory when it is enqueued, as TensorRT does."""

    active_optimization_profile = 0

    def __init__(self, engine: FakeMarkedEngine):
        self.engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name, self.engine.get_tensor_shape(name))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: FakeOutputAllocator) -> bool:
        self._allocators[name] = allocator
        return allocator.constructed

    def execute_async_v3(self, stream: int) -> bool:
        trt = self.engine.trt
        if not trt.accepts:
            return False
        (name, shape), (address,) = next(iter(self._shapes.items())), self._addresses.values()
        outputs = [each.name for each in self.engine.session.get_outputs()]
        # A builder knows all sizes; here another tile shows them.
        alike = self.engine.session.run(None, {name: np.zeros(shape, np.float32)})
        targets = [self._allocate(*pair) for pair in zip(outputs, alike, strict=True)]

        def run() -> None:
            tile = np.frombuffer(_bytes_at(address, 4 * int(np.prod(shape))), np.float32)
            values = self.engine.session.run(None, {name: tile.reshape(shape)})
            for output, value, target in zip(outputs, values, targets, strict=True):
                shown = np.ascontiguousarray(trt.alter(output, value)).astype(value.dtype)
                ctypes.memmove(target, shown.ctypes.data, shown.nbytes)

        trt.driver.held[stream].add(run)
        return True

    def _allocate(self, output: str, alike: np.ndarray) -> int:
        """Ask for an output's memory and state its shape; return the address."""
        allocator = self._allocators[output]
        address: int = allocator.reallocate_output(output, 0, alike.nbytes, 256)
        allocator.notify_shape(output, alike.shape)
        return address


@dataclass
class FakeCudaRuntime:
    """Functions of the CUDA runtime that Polygraphy calls, over the stand-in driver."""

    driver: FakeDriver

    def create_stream(self) -> int:
        return self._given("cuStreamCreate", ctypes.c_uint(0))

    def destroy_stream(self, stream: int) -> None:
        self.driver.cuStreamDestroy_v2(ctypes.c_void_p(stream))

    def stream_synchronize(self, stream: int) -> None:
        self.driver.cuStreamSynchronize(ctypes.c_void_p(stream))

    def malloc(self, size: int) -> int:
        return self._given("cuMemAlloc_v2", ctypes.c_size_t(size))

    def free(self, address: int) -> None:
        if address:
            self.driver.cuMemFree_v2(ctypes.c_uint64(address))

    def memcpy(self, dst: int, src: int, nbytes: int, kind: Any, stream_ptr: int) -> None:
        self.driver.held[stream_ptr].add(lambda: ctypes.memmove(dst, src, nbytes))

    def _given(self, function: str, argument: Any) -> int:
        pointer = SimpleNamespace(_obj=SimpleNamespace(value=0))
        assert getattr(self.driver, function)(pointer, argument) == 0
        return int(pointer._obj.value)


def pretend_polygraphy(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> None:
    """Let the real Polygraphy, newly imported, find a CUDA runtime."""
    forget_polygraphy(monkeypatch)
    import polygraphy.cuda.cuda

    monkeypatch.setattr(polygraphy.cuda.cuda, "G_CUDA", FakeCudaRuntime(driver))


def forget_polygraphy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload Polygraphy, which chooses between TensorRT and TensorRT-RTX when it is imported."""
    for name in [each for each in sys.modules if each.split(".")[0] == "polygraphy"]:
        monkeypatch.delitem(sys.modules, name)


def without_plugin(content: bytes) -> bytes:
    """Convert the network back for ONNX Runtime: restore what the plugin's form removed."""
    model = onnx.load_from_string(content)
    for node in scan_nodes(model):
        present = {each.name: each.i for each in node.attribute if each.name.startswith("has_")}
        given = iter([*node.input])
        inputs = [next(given) if present.get(f"has_{name}", 1) else "" for name in INPUTS]
        for attribute in [*node.attribute]:
            if attribute.name.startswith(("plugin_", "has_")):
                node.attribute.remove(attribute)
        del node.input[:]
        node.input.extend(inputs)
    return model.SerializeToString()


def _bytes_at(address: int, size: int) -> Any:
    return (ctypes.c_char * size).from_address(address)
