"""Sessions of TensorRT, with an engine that ``sgmf build`` made on this machine."""

from __future__ import annotations

import shlex

from segmaformer.runtime.backends.session import BackendOptions, NetworkKind
from segmaformer.runtime.backends.tensorrt.library import NAME, load_tensorrt
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.engines.cache import Engine, EngineCache
from segmaformer.runtime.package.reader import Package


def open_tensorrt(
    package: Package, variant: str, options: BackendOptions, engine: Engine | None = None
) -> EngineSession:
    """Open a network in TensorRT.

    Only engines from the cache run, or those that this process built: unaltered native code for
    this device, driver and version.

    Parameters
    ----------
    package, variant
        Package and variant to open.
    options
        Options; the number of threads has no effect, since the device does the work.
    engine
        New engine, to test before it is kept; None uses the cache's.

    Raises
    ------
    BackendError
        There is no engine, driver or plugin; the message says what to do.
    EngineError
        The engine does not pass its trust checks.
    """
    network = package.network(variant)
    tensorrt = load_tensorrt(network)
    if engine is None:
        command = build_command(package, variant, NAME)
        engine = EngineCache().load(tensorrt.key(package, variant), remedy=f"run: {command}")
    return EngineSession(
        tensorrt.module,
        engine.content,
        tensorrt.device,
        package.manifest,
        tensorrt.messages,
        kind=NetworkKind(NAME, "cuda", variant),
        description=f"TensorRT {tensorrt.version}, {tensorrt.device.facts.name}, {variant}",
        identity=engine.identity,
    )


def build_command(package: Package, variant: str, backend: str) -> str:
    """Return the command that builds a missing engine."""
    path = shlex.quote(str(package.path))
    return f"sgmf build {path} --backend {backend} --variant {variant}"
