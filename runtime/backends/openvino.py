"""OpenVINO on the CPU, with the op library's ops as its extensions.

float32 networks are computed in float32, even where OpenVINO would choose bfloat16; that is a
backend of its own.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from segmaformer.runtime.backends.onnxruntime_cpu import OnnxRuntimeSession
from segmaformer.runtime.backends.session import BackendOptions, NetworkKind
from segmaformer.runtime.bindings.op_library import op_library, op_library_path
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.errors import BackendError, CancelledError, MissingExtraError
from segmaformer.runtime.package.manifest import EXACT_VARIANT, Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.interruption import signals_deferred, terminable

DEVICE = "CPU"


class OpenVinoSession:
    """A network in OpenVINO's CPU plugin.

    It runs tiles one by one, so that shapes are known and memory is laid out once. May be called
    from several threads; their tiles run one after the other.

    Parameters
    ----------
    package, variant
        Package and variant to open; the bytes that were hashed are the ones that run.
    options
        Number of threads. OpenVINO reads no function bodies, so the op library is always used.
    bfloat16
        Compute in bfloat16 where OpenVINO sees a gain, with 8 instead of 24 bits of precision.

    Attributes
    ----------
    description
        Version, device, variant and threads.
    kind
        Backend, device, variant and precision.
    identity
        Text that changes with the network, OpenVINO, op library, processor and threads.

    Raises
    ------
    MissingExtraError
        OpenVINO is not installed.
    BackendError
        The op library is switched off or cannot be loaded, OpenVINO refuses the network, or inputs
        and outputs of the network differ from the manifest.
    """

    tiles_at_once = 1
    # Both would take processors from the network, which keeps them all busy already.
    overlap = False
    coarse = None
    resident = None

    def __init__(
        self, package: Package, variant: str, options: BackendOptions, *, bfloat16: bool = False
    ):
        openvino = import_openvino()
        if not options.use_op_library:
            raise BackendError(
                "OpenVINO cannot run the scan without the op library; take --backend onnxruntime"
            )
        content = package.network(variant)
        threads = options.threads or available_processors()
        self.description = _describe(f"{variant} in bfloat16" if bfloat16 else variant, threads)
        self.kind = (
            NetworkKind("openvino-bf16", "cpu", variant, "bfloat16")
            if bfloat16
            else NetworkKind("openvino", "cpu", variant)
        )
        self.identity = _identity(package, variant, self.description)
        self._lock = threading.Lock()
        self._tensor = openvino.Tensor
        takes, gives = package.manifest.input_shape, package.manifest.logits_shape
        self._op_errors: list[Exception] = []
        compiled = open_network(
            content, (1, *takes), threads=threads, errors=self._op_errors, bfloat16=bfloat16
        )
        _check_interface(compiled, package.manifest)
        self._request = compiled.create_infer_request()
        self._shapes = takes, gives

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The tiles have another shape or hold NaN or infinity, or the run failed.
        """
        takes, gives = self._shapes
        if tiles.shape[1:] != takes:
            raise BackendError(f"{self.description} takes tiles {takes}, got {tiles.shape[1:]}")
        _check_finite(tiles)
        tiles = np.ascontiguousarray(tiles, np.float32)
        logits = np.empty((len(tiles), *gives), np.float32)
        try:
            with self._lock:
                for index in range(len(tiles)):
                    self._run(tiles[index : index + 1], logits[index : index + 1])
        except CancelledError:
            raise
        except Exception as error:  # RuntimeError, and any error of an op inside it
            raise BackendError(f"{self.description} failed on a tile: {error}") from error
        return logits

    def _run(self, tile: np.ndarray, logits: np.ndarray) -> None:
        """Compute in the caller's memory."""
        self._request.set_input_tensor(self._tensor(tile, shared_memory=True))
        self._request.set_output_tensor(self._tensor(logits, shared_memory=True))
        # A signal must not raise in OpenVINO's own callbacks.
        self._op_errors.clear()
        with signals_deferred(), terminable(self._request.cancel):
            self._request.infer()
        if self._op_errors:
            raise self._op_errors[0]


def identify(package: Package, variant: str, options: BackendOptions) -> str:
    """Return the identity of a session of :class:`OpenVinoSession` without opening it."""
    threads = options.threads or available_processors()
    return _identity(package, variant, _describe(variant, threads))


def _describe(precision: str, threads: int) -> str:
    version = import_openvino().__version__.split("-")[0]
    return f"OpenVINO {version}, CPU, {precision}, {threads} thread{'s' if threads > 1 else ''}"


def _identity(package: Package, variant: str, description: str) -> str:
    manifest = package.manifest
    # The manifest's hash is that of every byte that runs, so the network is not read for it.
    network = bytes.fromhex(manifest.files[manifest.variants[variant].file].sha256)
    library = op_library_path().read_bytes()
    processor = import_openvino().Core().get_property(DEVICE, "FULL_DEVICE_NAME")
    parts = (library, description.encode(), str(processor).encode())
    digests = (network, *(hashlib.sha256(part).digest() for part in parts))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _check_finite(tiles: np.ndarray) -> None:
    # OpenVINO's activations turn NaN into numbers, which the logits would not show.
    if not (np.isfinite(tiles.min()) and np.isfinite(tiles.max())):
        raise BackendError("a tile holds NaN or infinity; check the scan's intensities")


def open_tested(package: Package, variant: str, options: BackendOptions) -> OpenVinoSession:
    """Open a network, and test on a phantom tile that it computes the same as ONNX Runtime.

    Packages were compared with PyTorch in ONNX Runtime alone.

    Raises
    ------
    MissingExtraError, BackendError
        As for :class:`OpenVinoSession`; or the self-test failed.
    """
    return _tested(package, OpenVinoSession(package, variant, options), options, variant)


def open_bfloat16(package: Package, variant: str, options: BackendOptions) -> OpenVinoSession:
    """Open a network in bfloat16, and test it by the bounds for a package's float16.

    Raises
    ------
    MissingExtraError, BackendError
        As for :func:`open_tested`; or the processor has no bfloat16.
    """
    able = import_openvino().Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in able:
        raise BackendError("this processor does not compute in bfloat16; take --backend openvino")
    session = OpenVinoSession(package, variant, options, bfloat16=True)
    return _tested(package, session, options, "bfloat16")


def _tested(
    package: Package, session: OpenVinoSession, options: BackendOptions, precision: str
) -> OpenVinoSession:
    from segmaformer.runtime.backends.self_test import shortcoming

    reason = shortcoming(
        package,
        session,
        lambda: OnnxRuntimeSession(package, EXACT_VARIANT, options),
        exact=precision == EXACT_VARIANT,
    )
    if reason is not None:
        raise BackendError(f"{session.description}: {reason}; take --backend onnxruntime")
    return session


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    OpenVINO imports its converter, which reports that to a web service through a separate package,
    and works without that package. Here it never finds it.

    Raises
    ------
    MissingExtraError
        OpenVINO is not installed, or was built for another machine.
    """
    try:
        with _hidden("openvino_telemetry"):
            import openvino
    except ImportError as error:
        raise MissingExtraError(
            f"OpenVINO cannot be imported: {error}; run: pip install 'segmaformer[openvino]'"
        ) from error
    module: ModuleType = openvino
    return module


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make importing a module fail during a block, unless it was imported before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # makes its import fail
    try:
        yield
    finally:
        del sys.modules[module]


def what_is_missing() -> str | None:
    """Return why OpenVINO cannot run here; None if it can."""
    try:
        import_openvino()
    except MissingExtraError as error:
        return str(error)
    return None


def open_network(
    content: bytes,
    shape: tuple[int, ...],
    *,
    threads: int,
    errors: list[Exception],
    bfloat16: bool = False,
) -> Any:
    """Compile an ``openvino.CompiledModel`` for the CPU.

    Parameters
    ----------
    content
        Serialised ONNX model of one input.
    shape
        Shape of the input, with the batch.
    threads
        Number of threads for one run.
    errors
        Receives what ops raise, also in later runs, which must look there.
    bfloat16
        Whether operators may compute in bfloat16 rather than float32.

    Raises
    ------
    MissingExtraError
        OpenVINO is not installed.
    BackendError
        The op library cannot be loaded, or OpenVINO refuses the model.
    """
    core = import_openvino().Core()
    from segmaformer.runtime.backends.openvino_ops import op_extensions

    op_library()  # its errors are clearer here than from within OpenVINO
    core.add_extension(op_extensions(threads, errors))
    try:
        model = core.read_model(content, b"")
        model.reshape(list(shape))
        compiled = core.compile_model(model, DEVICE, _settings(threads, bfloat16))
        if errors:
            raise errors[0]
        return compiled
    except Exception as error:  # RuntimeError, and any error of an op inside it
        raise BackendError(f"OpenVINO cannot open the network: {error}") from error


def _settings(threads: int, bfloat16: bool) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Otherwise the ops' threads inherit the one processor that their caller is bound to.
        "ENABLE_CPU_PINNING": False,
    }


def _check_interface(compiled: Any, manifest: Manifest) -> None:
    for what, found, expected in (
        ("takes", compiled.inputs, (1, *manifest.input_shape)),
        ("gives", compiled.outputs, (1, *manifest.logits_shape)),
    ):
        shapes = [tuple(port.shape) for port in found]
        types = [port.element_type.get_type_name() for port in found]
        if shapes != [expected] or types != ["f32"]:
            raise BackendError(
                f"the network {what} {shapes} of {', '.join(types)}; the manifest says "
                f"{expected} of f32. Export the package again"
            )
