"""ONNX Runtime on an NVIDIA GPU, with the native op library for CUDA.

ONNX Runtime's CUDA provider silently gives operators that it lacks to the CPU. Here that is allowed
only for the arithmetic of shapes, and reported; for any other operator it is an error.
"""

from __future__ import annotations

import collections
import contextlib
import io
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import segmaformer
from segmaformer.runtime.backends.batch_slot import BatchSlot
from segmaformer.runtime.backends.onnxruntime_cpu import (
    OnnxRuntimeSession,
    check_interface,
    import_onnxruntime,
    run_options,
)
from segmaformer.runtime.backends.session import BackendOptions, NetworkKind
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, driver_release
from segmaformer.runtime.bindings.cuda_library import cuda_library_path
from segmaformer.runtime.engines.cache import EngineKey, package_key
from segmaformer.runtime.errors import BackendError, SgmfError
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.digest import sha256_of
from segmaformer.runtime.system.interruption import terminable

PROVIDER = "CUDAExecutionProvider"
DEVICE = "cuda"
SCAN = b"SelectiveScan"
SLOTS = 2

SHAPE_ARITHMETIC = frozenset(
    ("Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather")
) | frozenset(
    ("Mul", "Range", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where")
)

_INSTALL = "run: pip uninstall onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
_ERRORS_ONLY = 3


class OnnxRuntimeCudaSession:
    """A network in ONNX Runtime's CUDA provider.

    Two slots of pinned and device memory take turns, one tile each: while one is computed, the next
    is copied in and the logits of the last out. May be called from several threads; their tiles run
    one after the other.

    Parameters
    ----------
    package, variant
        Package and variant to open; the bytes that were hashed are the ones that run.
    options
        Options; the number of threads has no effect, since the device does the work.

    Attributes
    ----------
    description
        Version, device, variant, and the operators that run on the CPU.
    kind
        Backend, device and variant.
    identity
        Text that changes with everything that the numbers depend on.

    Raises
    ------
    BackendError
        ONNX Runtime has no CUDA provider or it does not start, there is no driver, the installation
        has no op library for CUDA, part of the network would run on the CPU, the device has too
        little memory, or inputs and outputs of the network differ from the manifest.
    """

    tiles_at_once = SLOTS  # keeps copies and computations overlapped
    overlap = True
    coarse = None
    resident = None

    def __init__(self, package: Package, variant: str, options: BackendOptions):
        onnxruntime = import_cuda_onnxruntime()
        library = cuda_library_path() if options.use_op_library else None
        device = CudaDevice()
        content = package.network(variant)
        self._session = _open(onnxruntime, content, library)
        self._input = check_interface(self._session, package.manifest)
        self._output = self._session.get_outputs()[0].name
        shapes = package.manifest.input_shape, package.manifest.logits_shape
        self._device = device
        self._slots = [BatchSlot(device, 1, *shapes) for _ in range(SLOTS)]
        self._lock = threading.Lock()
        self.description = (
            f"ONNX Runtime {onnxruntime.__version__}, {device.facts.name}, {variant}"
            f"{_on_the_cpu(self._session, has_scan=options.use_op_library and SCAN in content)}"
        )
        self.kind = NetworkKind("onnxruntime", "cuda", variant)
        self.identity = EngineKey(
            **package_key(package, variant),
            builder=f"onnxruntime on {DEVICE}",
            builder_version=onnxruntime.__version__,
            segmaformer=segmaformer.__version__,
            plugin_sha256=None if library is None else sha256_of(library),
            cuda=device.driver.version,
            driver=driver_release(),
            device=device.facts.name,
            compute_capability=device.facts.compute_capability,
        ).digest

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Compute logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The run failed.
        """
        with self._lock:
            self._device.activate()
            logits = np.empty((len(tiles), *self._slots[0].logits.array.shape[1:]), np.float32)
            try:
                self._run(tiles, logits)
            except SgmfError:
                raise
            except Exception as error:  # its own exception types share no public base
                raise BackendError(f"{self.description} failed on a tile: {error}") from error
            finally:
                # After an error, no pending work may use the slots' memory.
                for slot in self._slots:
                    slot.stream.synchronize()
        return logits

    def _run(self, tiles: np.ndarray, logits: np.ndarray) -> None:
        for index in range(len(tiles)):
            slot, other = (self._slots[(index + k) % SLOTS] for k in range(SLOTS))
            if index == 0:
                slot.send(tiles[:1])
            slot.stream.synchronize()
            if index + 1 < len(tiles):
                other.send(tiles[index + 1 : index + 2])
            self._compute(slot)
            if index > 0:
                other.collect(logits[index - 1 : index])
            slot.fetch(1)
        slot.collect(logits[-1:])

    def _compute(self, slot: BatchSlot) -> None:
        """Run the network on a slot's tile; its logits are complete when this returns."""
        binding = self._session.io_binding()
        for bind, name, array, memory in (
            (binding.bind_input, self._input, slot.tiles.array, slot.tiles_on_device),
            (binding.bind_output, self._output, slot.logits.array, slot.logits_on_device),
        ):
            bind(name, DEVICE, 0, np.float32, array.shape, memory.address)
        options = run_options()
        with terminable(partial(setattr, options, "terminate", True)):
            self._session.run_with_iobinding(binding, options)


def open_tested(package: Package, variant: str, options: BackendOptions) -> OnnxRuntimeCudaSession:
    """Open a network, and test on a phantom tile that it computes the same as the CPU.

    A build of ONNX Runtime for other GPUs lists its CUDA provider, starts it and fails in its
    kernels, or computes wrong numbers.

    Raises
    ------
    BackendError
        As for :class:`OnnxRuntimeCudaSession`; or the self-test failed.
    EngineError
        The cache, which keeps passed tests, does not pass its trust checks.
    """
    from segmaformer.runtime.backends.self_test import shortcoming

    session = OnnxRuntimeCudaSession(package, variant, options)
    reason = shortcoming(
        package,
        session,
        lambda: OnnxRuntimeSession(package, EXACT_VARIANT, options),
        exact=variant == EXACT_VARIANT,
    )
    if reason is not None:
        raise BackendError(
            f"{session.description}: {reason}; install an ONNX Runtime for this GPU, or take "
            "another --variant or --backend"
        )
    return session


def import_cuda_onnxruntime() -> ModuleType:
    """Import ONNX Runtime with its CUDA provider.

    Raises
    ------
    BackendError
        ONNX Runtime is not installed, or was built without CUDA.
    """
    onnxruntime = import_onnxruntime()
    providers = onnxruntime.get_available_providers()
    if PROVIDER not in providers:
        raise BackendError(
            f"ONNX Runtime {onnxruntime.__version__} was built without CUDA, it has "
            f"{', '.join(providers)}; {_INSTALL}"
        )
    return onnxruntime


def what_is_missing() -> str | None:
    """Return why ONNX Runtime cannot run on a GPU here; None if it may."""
    complaints = []
    for part in (import_cuda_onnxruntime, CudaDevice, cuda_library_path):
        try:
            part()
        except SgmfError as error:
            complaints.append(str(error))
    return "; ".join(complaints) or None


def _open(onnxruntime: Any, content: bytes, library: Path | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    loading = io.StringIO()
    try:
        with contextlib.redirect_stdout(loading):
            _load_cuda_libraries(onnxruntime)
        if library is not None:  # it has the scan alone; other ops run their bodies
            options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(
            content, options, providers=[(PROVIDER, provider_options())], enable_fallback=False
        )
    except BackendError:
        raise
    except Exception as error:  # its own exception types share no public base
        raise BackendError(
            f"ONNX Runtime cannot open the network on the GPU: {error}{_missing(loading)}"
        ) from error
    if session.get_providers()[0] != PROVIDER:
        remedy = _missing(loading) or f"; {_INSTALL}"
        raise BackendError(f"ONNX Runtime's {PROVIDER} does not start here{remedy}")
    return session


def provider_options() -> dict[str, str]:
    """Return options of the CUDA provider: full float32, and no more memory than is used."""
    return {"device_id": "0", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}


def _load_cuda_libraries(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN from pip's folders; versions before 1.21 only search the path."""
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _missing(loading: io.StringIO) -> str:
    """Return libraries that were not found and advice, as the end of a message."""
    failures = [line for line in loading.getvalue().splitlines() if line.startswith("Failed")]
    return "; ".join(["", *failures, _INSTALL]) if failures else ""


def _on_the_cpu(session: Any, *, has_scan: bool) -> str:
    """Return the operators that run on the CPU, as the end of a description.

    Raises
    ------
    BackendError
        There are more than the arithmetic of shapes, or the scan is not on the GPU.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return "; this version does not tell what runs on the CPU"
    assigned = collections.Counter(_assignments(session))
    if has_scan and not assigned[PROVIDER, SCAN.decode()]:
        raise BackendError(f"ONNX Runtime did not give the {SCAN.decode()} nodes to {PROVIDER}")
    on_cpu = {op: count for (place, op), count in assigned.items() if place != PROVIDER}
    unexpected = sorted(on_cpu.keys() - SHAPE_ARITHMETIC)
    if unexpected:
        raise BackendError(
            f"ONNX Runtime would run {_listed(on_cpu, unexpected)} of the network on the CPU, for "
            f"want of them in its {PROVIDER}; take another --variant or --backend"
        )
    return f"; on the CPU: {_listed(on_cpu, sorted(on_cpu))}" if on_cpu else ""


def _assignments(session: Any) -> Iterator[tuple[str, str]]:
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            yield part.ep_name, node.op_type


def _listed(counts: dict[str, int], names: Sequence[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in names)
