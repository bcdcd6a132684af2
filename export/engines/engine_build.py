"""Building of an engine for one machine from a package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import onnx

from segmaformer.export.engines.plugin_graph import plugin_graph
from segmaformer.export.engines.rtx_engine import build_package_engine
from segmaformer.runtime.backends.tensorrt import (
    library as tensorrt_library,
)
from segmaformer.runtime.backends.tensorrt import (
    rtx_build as tensorrt_rtx_build,
)
from segmaformer.runtime.backends.tensorrt.build import Built, build_engine
from segmaformer.runtime.backends.tensorrt.library import TensorRt
from segmaformer.runtime.backends.tensorrt.rtx_library import rtx_key, target_of
from segmaformer.runtime.bindings.cuda_driver import CudaDevice
from segmaformer.runtime.engines.cache import EngineCache, EngineKey
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.progress import Report, StepProgress


@dataclass(frozen=True)
class EngineRequest:
    """Choice of the engine to build.

    Attributes
    ----------
    batch
        Largest number of tiles that run at once.
    target
        Compute capability of another machine's GPU, such as ``sm86``; None builds for this machine.
    """

    package: Package
    variant: str
    batch: int = 1
    target: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; expected at least 1")


@dataclass(frozen=True)
class BuiltEngine:
    """Engine that has not been tested yet.

    Attributes
    ----------
    key
        All that the engine depends on.
    """

    key: EngineKey
    content: bytes
    seconds: float


class Builder(Protocol):
    """Function that builds engines for one backend."""

    def __call__(
        self, request: EngineRequest, *, progress: StepProgress, keep_log: Report
    ) -> BuiltEngine:
        """Build an engine; `keep_log` is given the builder's log, also after a failure."""
        ...


def builders() -> dict[str, Builder]:
    """Return the builders of engines, by the name of the backend that runs them."""
    return {tensorrt_library.NAME: build_tensorrt, tensorrt_rtx_build.NAME: build_tensorrt_rtx}


def build_tensorrt(
    request: EngineRequest, *, progress: StepProgress, keep_log: Report
) -> BuiltEngine:
    """Build with TensorRT, on the device that will run the engine.

    The time of every tactic is kept in the engine cache, under the rules for engines, so that a
    second build is short.

    Raises
    ------
    BackendError
        Driver, device or plugin are missing; a target is given; or TensorRT cannot build the
        network.
    MissingExtraError
        TensorRT is not installed.
    EngineError
        The engine cache does not pass its trust checks.
    """
    if request.target is not None:
        raise BackendError(
            f"TensorRT builds for the device it runs on, not for {request.target}; run this "
            "command there, or take --backend tensorrt-rtx"
        )
    package = request.package
    content = package.network(request.variant)
    tensorrt = tensorrt_library.load_tensorrt(content)
    key = tensorrt.key(package, request.variant).for_batch(request.batch)
    network = plugin_graph(onnx.load_model_from_string(content)).SerializeToString()
    try:
        built = build_here(tensorrt, network, key, progress=progress)
    finally:
        keep_log(tensorrt.messages.text())
    return BuiltEngine(key, built.engine, built.seconds)


def build_here(
    tensorrt: TensorRt, network: bytes, key: EngineKey, *, progress: StepProgress | None = None
) -> Built:
    """Build with TensorRT for this machine, reusing the timings of earlier builds on it.

    Parameters
    ----------
    tensorrt
        TensorRT, prepared for the network.
    network
        Model file made by :func:`segmaformer.export.engines.plugin_graph.plugin_graph`.
    key
        Key whose machine and batch are used.
    progress
        Called as the builder proceeds.

    Raises
    ------
    BackendError
        TensorRT cannot build the network.
    EngineError
        The engine cache does not pass its trust checks.
    """
    cache = EngineCache()
    timings = _timing_name(key)
    earlier = cache.recall(timings)
    built = build_engine(
        tensorrt.module,
        network,
        tensorrt.messages,
        batch=key.batch[-1],
        timing_cache=earlier[0] if earlier else b"",
        progress=progress,
    )
    if built.timing_cache:
        cache.remember(timings, built.timing_cache)
    return built


def build_tensorrt_rtx(
    request: EngineRequest, *, progress: StepProgress, keep_log: Report
) -> BuiltEngine:
    """Build with TensorRT-RTX, ahead of time and for any target.

    Raises
    ------
    ValueError
        TensorRT-RTX has no such target.
    BackendError
        No target is given and this machine has no device, or the network cannot be built.
    MissingExtraError
        TensorRT-RTX is not installed.
    """
    target = request.target or _target_here()
    built = build_package_engine(
        request.package,
        request.variant,
        target,
        batch=request.batch,
        progress=progress,
        keep_log=keep_log,
    )
    key = rtx_key(request.package, request.variant, target, built.builder_version)
    return BuiltEngine(key.for_batch(request.batch), built.content, built.seconds)


def _target_here() -> str:
    try:
        return target_of(CudaDevice())
    except BackendError as error:
        raise BackendError(
            f"{error}. To build for another machine, name its GPU with --target, such as sm86"
        ) from None


def _timing_name(key: EngineKey) -> str:
    """Name the record of timings, which hold for a device and its versions, for any network."""
    machine = (key.builder_version, key.cuda, key.driver, key.device, key.compute_capability)
    return f"{hashlib.sha256(repr(machine).encode()).hexdigest()}.timing"
