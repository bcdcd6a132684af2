"""Key of a TensorRT-RTX engine, which depends on its target, not on the device and its driver.

TensorRT-RTX compiles the last step for the device when the engine is opened, so an engine that was
built ahead of time on any machine serves every device of its target.
"""

from __future__ import annotations

import segmaformer
from segmaformer.runtime.backends.tensorrt.rtx_build import NAME
from segmaformer.runtime.bindings.cuda_driver import CudaDevice
from segmaformer.runtime.engines.cache import EngineKey, package_key
from segmaformer.runtime.package.reader import Package


def target_of(device: CudaDevice) -> str:
    """Return the target that a device belongs to, such as ``sm86``."""
    return f"sm{device.facts.compute_capability.replace('.', '')}"


def rtx_key(package: Package, variant: str, target: str, builder_version: str) -> EngineKey:
    """Return the key of an engine for `target`, for single tiles."""
    return EngineKey(
        **package_key(package, variant),
        builder=NAME,
        builder_version=builder_version,
        segmaformer=segmaformer.__version__,
        target=target,
    )
