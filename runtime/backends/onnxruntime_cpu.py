"""ONNX Runtime on the CPU, with the native op library."""

from __future__ import annotations

import operator
import os
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from segmaformer.runtime.backends.session import BackendOptions, CoarseNetwork, NetworkKind
from segmaformer.runtime.bindings.coarse_model import enlarged, without_last_upsampling
from segmaformer.runtime.bindings.op_library import register_op_library
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.spec import Triple
from segmaformer.runtime.system.interruption import terminable

PROVIDER = "CPUExecutionProvider"
EXACT_INT8 = ("session.x64quantprecision", "1")
"""Session option without which int8 products saturate on processors that lack VNNI."""

_NOTHING = 4  # the severity above errors, which are raised instead


class OnnxRuntimeSession:
    """A network in ONNX Runtime's CPU provider.

    Sessions may be run from several threads at once.

    Parameters
    ----------
    package, variant
        Package and variant to open; the bytes that were hashed are the ones that run.
    options
        Number of threads, and whether to use the op library.

    Attributes
    ----------
    description
        Version, device, variant and threads.
    kind
        Backend, device and variant.

    Raises
    ------
    BackendError
        ONNX Runtime or the op library is missing, refuses the model or chose another provider; or
        inputs and outputs of the network differ from the manifest.
    """

    tiles_at_once = 1
    # Both would take processors from the network, which keeps them all busy already.
    overlap = False
    identity = None
    resident = None

    def __init__(self, package: Package, variant: str, options: BackendOptions):
        onnxruntime = import_onnxruntime()
        content = package.network(variant)
        threads = options.threads or available_processors()
        plural = "s" if threads > 1 else ""
        self.description = (
            f"ONNX Runtime {onnxruntime.__version__}, CPU, {variant}, {threads} thread{plural}"
        )
        self.kind = NetworkKind("onnxruntime", "cpu", variant)
        self._threads = threads
        coarse = without_last_upsampling(content) if options.use_op_library else None
        model = content if coarse is None else coarse.model
        self._scales = None if coarse is None else coarse.scales
        del content, coarse  # the weights are large, and opening takes them several times
        scales = self._scales or (1, 1, 1)
        self._session = open_network(model, threads=threads, op_library=options.use_op_library)
        self._input = check_interface(self._session, package.manifest, scales)
        self._tile = package.manifest.tiling.tile

    @property
    def coarse(self) -> CoarseNetwork | None:
        """The network without its last upsampling, if it ends with one."""
        if self._scales is None:
            return None
        depth, height, width = map(operator.floordiv, self._tile, self._scales)
        return CoarseNetwork(self.run_coarse, (depth, height, width))

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The run failed.
        """
        logits = self.run_coarse(tiles)
        return logits if self._scales is None else enlarged(logits, self._scales, self._threads)

    def run_coarse(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits as :meth:`run`, but on the grid of :attr:`coarse`, if there is one."""
        options = run_options()
        with terminable(partial(setattr, options, "terminate", True)):
            try:
                logits: np.ndarray = self._session.run(None, {self._input: tiles}, options)[0]
            except Exception as error:  # its own exception types share no public base
                raise BackendError(f"{self.description} failed on a tile: {error}") from error
        return logits


def run_options() -> Any:
    """Return options of a run that raises errors without printing them."""
    options = import_onnxruntime().RunOptions()
    options.log_severity_level = _NOTHING
    return options


def run_network(session: Any, tile: np.ndarray) -> list[np.ndarray]:
    """Run a session on its one input in such a way that the run can be ended early.

    Raises
    ------
    KeyboardInterrupt, CancelledError
        The run was ended, see :func:`segmaformer.runtime.system.interruption.terminable`.
    """
    options = run_options()
    with terminable(partial(setattr, options, "terminate", True)):
        outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: tile}, options)
    return outputs


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime without its telemetry.

    If another module imported it first, its telemetry has started and is stopped here, unless
    ``ORT_DISABLE_TELEMETRY`` is 0.

    Raises
    ------
    BackendError
        ONNX Runtime is not installed, or was built for another machine.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f"ONNX Runtime cannot be imported: {error}; run: pip install onnxruntime"
        ) from error
    if os.environ.get("ORT_DISABLE_TELEMETRY") != "0":
        onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module


def open_network(content: bytes, *, threads: int, op_library: bool = True) -> Any:
    """Open an ``onnxruntime.InferenceSession`` on the CPU provider alone.

    Parameters
    ----------
    content
        Serialised ONNX model.
    threads
        Number of threads for one run.
    op_library
        Whether to run the scan natively instead of its function body.

    Raises
    ------
    BackendError
        ONNX Runtime or the op library is missing, refuses the model or chose another provider.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait long by spinning take processors from the others, and from the blending.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(*EXACT_INT8)
    # Tiles have one shape: planning memory by pattern only holds a second arena of that size.
    options.enable_mem_pattern = False
    # A plan that lets late tensors take the memory of early ones holds it for the time between.
    options.enable_mem_reuse = False
    options.log_severity_level = _NOTHING
    try:
        if op_library:
            register_op_library(options)
        session = onnxruntime.InferenceSession(
            content, options, providers=[PROVIDER], enable_fallback=False
        )
    except BackendError:
        raise
    except Exception as error:  # its own exception types share no public base
        raise BackendError(f"ONNX Runtime cannot open the network: {error}") from error
    session._model_bytes = None  # noqa: SLF001 -- of no use without its fallback, and as large as the weights
    if session.get_providers() != [PROVIDER]:
        raise BackendError(f"asked ONNX Runtime for {PROVIDER}, got {session.get_providers()}")
    return session


def check_interface(session: Any, manifest: Manifest, scales: Triple = (1, 1, 1)) -> str:
    """Return the name of the network's input, after comparing the interface with the manifest.

    Parameters
    ----------
    session, manifest
        Opened network and its manifest.
    scales
        Factors from the grid of its logits to the tile's, along (D, H, W).

    Raises
    ------
    BackendError
        Shapes or types differ from the manifest.
    """
    for what, found, factors, expected in (
        ("takes", session.get_inputs(), (1, 1, 1), manifest.input_shape),
        ("gives", session.get_outputs(), scales, manifest.logits_shape),
    ):
        shapes = [_scaled(tuple(entry.shape[1:]), factors) for entry in found]
        types = [entry.type for entry in found]
        if shapes != [expected] or types != ["tensor(float)"]:
            raise BackendError(
                f"the network {what} {shapes} of {', '.join(types)}; the manifest says "
                f"{expected} of tensor(float) behind the batch. Export the package again"
            )
    name: str = session.get_inputs()[0].name
    return name


def _scaled(shape: tuple[Any, ...], scales: Triple) -> tuple[Any, ...]:
    """Multiply extents (channels, D, H, W), as far as they are numbers, by the scales."""
    factors = (1, *scales)
    if len(shape) != len(factors) or not all(isinstance(extent, int) for extent in shape):
        return shape
    return tuple(extent * factor for extent, factor in zip(shape, factors, strict=True))
