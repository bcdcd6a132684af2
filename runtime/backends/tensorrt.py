"""TensorRT, from an engine that ``sgmf build`` made on this machine."""

from __future__ import annotations

import shlex

import numpy as np

from segmaformer.runtime.backends import BackendOptions, check_logits
from segmaformer.runtime.backends.engine_runner import EngineRunner
from segmaformer.runtime.backends.tensorrt_library import NAME, load_tensorrt
from segmaformer.runtime.device_lines import DeviceNetwork
from segmaformer.runtime.engine_cache import EngineCache
from segmaformer.runtime.package import Package


class TensorRtSession:
    """A network in TensorRT.

    Only engines from the cache run: native code that was built here, for this device,
    driver and version, and that nobody altered.

    Parameters
    ----------
    package, variant
        What to open.
    options
        The device does the work, so its threads change nothing.

    Attributes
    ----------
    description
        Version, device, variant and batch.
    identity
        Changes with everything that the engine depends on, and with the engine.

    Raises
    ------
    BackendError
        There is no engine, driver or plugin, and what to do.
    EngineError
        The engine is not to be trusted.
    """

    overlap = True

    def __init__(self, package: Package, variant: str, options: BackendOptions):
        network = package.read(package.manifest.variants[variant].file)
        tensorrt = load_tensorrt(network)
        engine = EngineCache().load(
            tensorrt.key(package, variant), remedy=f"run: {build_command(package, variant, NAME)}"
        )
        self._runner = EngineRunner(
            tensorrt.module, engine.content, tensorrt.device, package.manifest, tensorrt.messages
        )
        self.description = (
            f"TensorRT {tensorrt.version}, {tensorrt.device.facts.name}, {variant}, "
            f"batch {self._runner.batch}"
        )
        self.identity = engine.identity

    @property
    def resident(self) -> DeviceNetwork:
        """The network with its logits left on the device, unchecked."""
        return self._runner.resident

    @property
    def tiles_at_once(self) -> int:
        """Tiles for one call of :meth:`run` that fill the device."""
        return self._runner.tiles_at_once

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Logits (B, K, D, H, W) float32 of tiles (B, C, D, H, W) float32.

        Raises
        ------
        BackendError
            The device failed, or gave NaN or infinity.
        """
        return check_logits(self._runner.run(tiles), self.description)


def build_command(package: Package, variant: str, backend: str) -> str:
    """The command that builds a missing engine."""
    path = shlex.quote(str(package.path))
    return f"sgmf build {path} --backend {backend} --variant {variant}"
