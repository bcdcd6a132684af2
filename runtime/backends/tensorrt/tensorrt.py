"""TensorRT, from an engine that ``sgmf build`` made on this machine."""

from __future__ import annotations

import shlex

from segmaformer.runtime.backends.session import BackendOptions
from segmaformer.runtime.backends.tensorrt.library import NAME, load_tensorrt
from segmaformer.runtime.backends.tensorrt.runner import EngineRunner
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.engines.cache import Engine, EngineCache
from segmaformer.runtime.package.reader import Package


def open_tensorrt(
    package: Package, variant: str, options: BackendOptions, engine: Engine | None = None
) -> EngineSession:
    """Open a network in TensorRT.

    Only engines from the cache run, or those that this process built: native code from here,
    for this device, driver and version, and that nobody altered.

    Parameters
    ----------
    package, variant
        What to open.
    options
        The device does the work, so its threads change nothing.
    engine
        A new one, to try before it is kept; None takes the cache's.

    Raises
    ------
    BackendError
        There is no engine, driver or plugin, and what to do.
    EngineError
        The engine is not to be trusted.
    """
    network = package.network(variant)
    tensorrt = load_tensorrt(network)
    if engine is None:
        command = build_command(package, variant, NAME)
        engine = EngineCache().load(tensorrt.key(package, variant), remedy=f"run: {command}")
    runner = EngineRunner(
        tensorrt.module, engine.content, tensorrt.device, package.manifest, tensorrt.messages
    )
    name = f"TensorRT {tensorrt.version}, {tensorrt.device.facts.name}, {variant}"
    return EngineSession(runner, name, engine.identity)


def build_command(package: Package, variant: str, backend: str) -> str:
    """The command that builds a missing engine."""
    path = shlex.quote(str(package.path))
    return f"sgmf build {path} --backend {backend} --variant {variant}"
