"""ONNX Runtime on the CPU, with the native op library."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from segmaformer.runtime.backends import BackendOptions, check_logits
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.op_library import op_library_path
from segmaformer.runtime.package import Package

PROVIDER = "CPUExecutionProvider"


def available_processors() -> int:
    """Processors that this process may use: its affinity, capped by its control group."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(affinity or 1, _control_group_limit()))


def _control_group_limit() -> int:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as limit:
            quota, period = limit.read().split()
    except (OSError, ValueError):
        return os.cpu_count() or 1
    return os.cpu_count() or 1 if quota == "max" else max(1, -(-int(quota) // int(period)))


class OnnxRuntimeSession:
    """A network in ONNX Runtime's CPU provider.

    Parameters
    ----------
    package, variant
        What to open; the bytes that were hashed are the ones that run.
    options
        Threads, and whether the op library is used.

    Raises
    ------
    BackendError
        ONNX Runtime refuses the model, or chose another provider.
    """

    def __init__(self, package: Package, variant: str, options: BackendOptions):
        import onnxruntime

        content = package.read(package.manifest.variants[variant].file)
        threads = options.threads or available_processors()
        self.description = f"ONNX Runtime {onnxruntime.__version__}, CPU, {variant}, {threads} threads"
        self._session = self._create(onnxruntime, content, threads, options.use_op_library)
        if self._session.get_providers() != [PROVIDER]:
            raise BackendError(
                f"asked ONNX Runtime for {PROVIDER}, got {self._session.get_providers()}"
            )
        self._input = self._session.get_inputs()[0].name

    def _create(self, onnxruntime: Any, content: bytes, threads: int, use_op_library: bool) -> Any:
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = threads
        session_options.log_severity_level = 3
        if use_op_library:
            session_options.register_custom_ops_library(str(op_library_path()))
        try:
            return onnxruntime.InferenceSession(
                content, session_options, providers=[PROVIDER], enable_fallback=False
            )
        except Exception as error:  # its own exception types share no public base
            raise BackendError(f"ONNX Runtime cannot open the network: {error}") from error

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The run failed, or gave NaN or infinity.
        """
        try:
            logits: np.ndarray = self._session.run(None, {self._input: tiles})[0]
        except Exception as error:
            raise BackendError(f"{self.description} failed on a tile: {error}") from error
        return check_logits(logits, self.description)
