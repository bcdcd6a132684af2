"""Values inside engines of TensorRT and TensorRT-RTX, layer by layer.

An engine shows only its outputs. To see inside, engines are built from the same graph by the same
builder with a group of its values as outputs, and NVIDIA's Polygraphy runs them. Marking a value
keeps the builder from fusing its producer with its reader, and values that no output needs are
not computed: such an engine shows the effect of each layer on numbers, not the very kernels of
the engine in use. None of these engines is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from segmaformer.calibration.verification.layer_comparison import value_types, variant_model
from segmaformer.export.engines.engine_build import build_here
from segmaformer.export.engines.plugin_graph import plugin_graph
from segmaformer.export.plain_graph import plain_graph
from segmaformer.runtime.backends.tensorrt import (
    library as tensorrt_library,
)
from segmaformer.runtime.backends.tensorrt import (
    rtx_build as tensorrt_rtx_build,
)
from segmaformer.runtime.backends.tensorrt.library import load_tensorrt
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.backends.tensorrt.rtx import known_target
from segmaformer.runtime.backends.tensorrt.rtx_build import build_rtx_engine, import_tensorrt_rtx
from segmaformer.runtime.bindings.cuda_driver import CudaDevice
from segmaformer.runtime.errors import BackendError, MissingExtraError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.memory import MIB

_CHOSEN = "polygraphy.mod.trt_importer"
"""Polygraphy's module that runs engines; nothing else here needs it."""


class EngineValues:
    """Values of a variant, computed by engines that have them as outputs.

    Parameters
    ----------
    trt
        The module ``tensorrt`` or ``tensorrt_rtx``.
    model
        Model file for the builder; its values have the same names as in the package.
    types
        Types and shapes of the values, by name.
    build
        Function that builds an engine from a network's file.
    description
        Builder, device and variant, for people.

    Raises
    ------
    MissingExtraError
        Polygraphy is not installed.
    """

    group_bytes = 512 * MIB
    """Large, so that groups are few: each group costs the building of an engine."""

    def __init__(
        self,
        trt: ModuleType,
        model: onnx.ModelProto,
        types: dict[str, onnx.ValueInfoProto],
        build: Callable[[bytes], bytes],
        description: str,
    ):
        self._runner_type = import_runner(trt)
        self._trt, self._model, self._types, self._build = trt, model, types, build
        self.names = types.keys() & {name for node in model.graph.node for name in node.output}
        self.description = f"{description}, engines built with their values as outputs"

    def compute(self, group: Sequence[str], tiles: np.ndarray) -> Iterator[Sequence[np.ndarray]]:
        """Compute the values of `group` on each of `tiles` (n, C, D, H, W) float32.

        Raises
        ------
        BackendError
            No engine can be built with these values as outputs, or it cannot be run.
        """
        from polygraphy.exception import PolygraphyException

        messages = Messages(self._trt)
        content = self._build(marked_network(self._model, [self._types[name] for name in group]))
        runtime = messages.start("Runtime")  # outlives its engine
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise BackendError(f"the engine for {group[0]} cannot be opened: {messages.errors()}")
        try:
            with self._runner_type(engine) as runner, _freed(runner):
                for tile in tiles:
                    values = runner.infer({self._model.graph.input[0].name: tile[np.newaxis]})
                    yield [values[name] for name in group]
        except (PolygraphyException, OSError) as error:  # OSError: no CUDA runtime library
            raise BackendError(
                f"Polygraphy cannot run the engine for {group[0]}: {error}; {messages.errors()}"
            ) from error


def tensorrt_values(package: Package, variant: str) -> EngineValues:
    """Open the values of a variant in TensorRT, on this machine.

    Raises
    ------
    BackendError
        There is no driver, device or plugin.
    MissingExtraError
        TensorRT or Polygraphy are not installed.
    """
    model = variant_model(package, variant)
    tensorrt = load_tensorrt(model.SerializeToString())
    key = tensorrt.key(package, variant)
    return EngineValues(
        tensorrt.module,
        plugin_graph(model),
        value_types(model),
        lambda network: build_here(tensorrt, network, key).engine,
        f"TensorRT {tensorrt.version}, {tensorrt.device.facts.name}, {variant}",
    )


def tensorrt_rtx_values(package: Package, variant: str) -> EngineValues:
    """Open the values of a variant in TensorRT-RTX, on this machine.

    Raises
    ------
    BackendError
        There is no driver or device, or TensorRT-RTX has no target for it.
    MissingExtraError
        TensorRT-RTX or Polygraphy are not installed.
    """
    module, device = import_tensorrt_rtx(), CudaDevice()
    target = known_target(device)
    model = variant_model(package, variant)
    return EngineValues(
        module,
        plain_graph(model, batch=1),
        value_types(model),
        lambda network: build_rtx_engine(network, target).content,
        f"TensorRT-RTX {module.__version__}, {device.facts.name}, {variant}",
    )


ENGINE_VALUES = {
    tensorrt_library.NAME: tensorrt_values,
    tensorrt_rtx_build.NAME: tensorrt_rtx_values,
}
"""Functions that give the values inside engines, by the name of the backend that runs them."""


def marked_network(model: onnx.ModelProto, values: Sequence[onnx.ValueInfoProto]) -> bytes:
    """Serialise `model` with `values` alone as outputs.

    Builders take an output's type from the file, so the values come with their types.
    """
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    del marked.graph.output[:]
    marked.graph.output.extend(values)
    return marked.SerializeToString()


@contextmanager
def _freed(runner: Any) -> Iterator[None]:
    """Free the outputs' memory on the device, which Polygraphy's runner would keep."""
    try:
        yield
    finally:
        for buffer in runner.output_allocator.buffers.values():
            buffer.free()


def import_runner(trt: ModuleType) -> Any:
    """Import Polygraphy's ``TrtRunner`` for ``tensorrt`` or ``tensorrt_rtx``.

    Raises
    ------
    MissingExtraError
        Polygraphy is not installed.
    BackendError
        This process has used it for the other one before.
    """
    rtx = trt.__name__ == tensorrt_rtx_build.MODULE
    try:
        from polygraphy import config
        from polygraphy.logger import G_LOGGER
    except ImportError as error:
        extra = "rtx" if rtx else "tensorrt"
        raise MissingExtraError(
            f"Polygraphy cannot be imported: {error}; run: pip install 'segmaformer[{extra}]'"
        ) from error
    if _CHOSEN in sys.modules and rtx != config.USE_TENSORRT_RTX:
        raise BackendError(
            f"Polygraphy serves one of TensorRT and TensorRT-RTX in a process, and {trt.__name__} "
            "is the second; look into its engines in another"
        )
    config.USE_TENSORRT_RTX = rtx  # read once, by the imports below
    # Polygraphy writes to stdout by default, where results go.
    G_LOGGER.use_python_logging_system, G_LOGGER.colors = True, False
    from polygraphy.backend.trt import TrtRunner

    return TrtRunner
