"""The ``tensorrt`` package, the plugin for it, and the key of its engines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import segmaformer
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, driver_release
from segmaformer.runtime.bindings.installed_library import installed_library
from segmaformer.runtime.engines.cache import EngineKey, package_key
from segmaformer.runtime.errors import BackendError, MissingExtraError, SgmfError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.digest import sha256_of

NAME = "tensorrt"
OLDEST, FIRST_UNKNOWN = (10, 3), (12, 0)
PLUGIN, PLUGIN_VERSION, PLUGIN_NAMESPACE = "SelectiveScan", "1", "segmaformer"

_loaded: set[Path] = set()
"""Plugin libraries that this process has loaded."""


@dataclass(frozen=True)
class TensorRt:
    """TensorRT on this machine, with the plugin loaded if a network needs it.

    Attributes
    ----------
    plugin_sha256
        SHA-256 of the plugin library; None if it was not needed.
    """

    module: ModuleType
    messages: Messages
    device: CudaDevice
    plugin_sha256: str | None

    @property
    def version(self) -> str:
        """Version of TensorRT."""
        return str(self.module.__version__)

    def key(self, package: Package, variant: str) -> EngineKey:
        """Return the key of an engine of this variant here, for single tiles."""
        facts = self.device.facts
        return EngineKey(
            **package_key(package, variant),
            builder=NAME,
            builder_version=self.version,
            segmaformer=segmaformer.__version__,
            plugin_sha256=self.plugin_sha256,
            cuda=self.device.driver.version,
            driver=driver_release(),
            device=facts.name,
            compute_capability=facts.compute_capability,
        )


def load_tensorrt(network: bytes) -> TensorRt:
    """Prepare TensorRT for a network.

    Parameters
    ----------
    network
        ONNX file; the plugin is loaded if it holds a selective scan.

    Raises
    ------
    BackendError
        There is no driver or device, the version is not supported, or the plugin is missing or does
        not load.
    MissingExtraError
        TensorRT is not installed.
    """
    module = import_tensorrt()
    device = CudaDevice()
    messages = Messages(module)
    needs_plugin = PLUGIN.encode() in network
    return TensorRt(
        module, messages, device, _load_plugin(module, messages) if needs_plugin else None
    )


def what_is_missing() -> str | None:
    """Return why TensorRT cannot run here; None if it may."""
    complaints = []
    for part in (import_tensorrt, CudaDevice, plugin_path):
        try:
            part()
        except SgmfError as error:
            complaints.append(str(error))
    return "; ".join(complaints) or None


def import_tensorrt() -> ModuleType:
    """Import TensorRT, with the errors of :func:`load_tensorrt`."""
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtraError(
            f"TensorRT cannot be imported: {error}. On a Jetson it comes with JetPack "
            "(python3-libnvinfer); elsewhere run: pip install 'segmaformer[tensorrt]'"
        ) from error
    module: ModuleType = tensorrt
    check_version(module)
    return module


def check_version(module: ModuleType) -> None:
    """Refuse versions of TensorRT that this backend was not written for."""
    found = re.match(r"(\d+)\.(\d+)", str(module.__version__))
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if not OLDEST <= version < FIRST_UNKNOWN:
        raise BackendError(
            f"TensorRT {module.__version__} is installed; expected 10.3 or newer and below 12"
        )


def plugin_path() -> Path:
    """Return the path of the plugin library that this installation built.

    Raises
    ------
    BackendError
        The installation has none.
    """
    return installed_library(
        "libsgmf_tensorrt",
        what="TensorRT plugin",
        remedy="reinstall segmaformer where nvcc and TensorRT's headers are found "
        "(docs/how-to/jetson.md)",
    )


def _load_plugin(module: ModuleType, messages: Messages) -> str:
    """Load the plugin and return the SHA-256 of its library."""
    path = plugin_path()
    # TensorRT reports an error if a plugin is loaded twice, or asked for but missing.
    if path not in _loaded:
        registry = module.get_plugin_registry()
        if registry.load_library(str(path)) is None and _creator(registry) is None:
            raise BackendError(
                f"TensorRT {module.__version__} cannot load the plugin {path}: "
                f"{messages.errors()}. Reinstall segmaformer on this machine, so that it is built "
                "for this TensorRT"
            )
        _loaded.add(path)
    return sha256_of(path)


def _creator(registry: Any) -> Any:
    return registry.get_creator(PLUGIN, PLUGIN_VERSION, PLUGIN_NAMESPACE)
