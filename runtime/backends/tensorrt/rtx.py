"""Sessions of TensorRT-RTX, with an engine that ``sgmf build`` made for this device's target."""

from __future__ import annotations

import hashlib

from segmaformer.runtime.backends.session import BackendOptions, NetworkKind
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.backends.tensorrt.rtx_build import NAME, TARGETS, import_tensorrt_rtx
from segmaformer.runtime.backends.tensorrt.rtx_library import rtx_key, target_of
from segmaformer.runtime.backends.tensorrt.session import EngineSession
from segmaformer.runtime.backends.tensorrt.tensorrt import build_command
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, driver_release, load_driver
from segmaformer.runtime.engines.cache import Engine, EngineCache
from segmaformer.runtime.errors import BackendError, SgmfError
from segmaformer.runtime.package.reader import Package


def open_rtx(
    package: Package, variant: str, options: BackendOptions, engine: Engine | None = None
) -> EngineSession:
    """Open a network in TensorRT-RTX.

    Parameters are those of :func:`segmaformer.runtime.backends.tensorrt.tensorrt.open_tensorrt`.
    An engine is native code for a target, and kernels are compiled for the device as it is
    opened.

    Raises
    ------
    BackendError
        There is no engine or driver, or TensorRT-RTX does not know the device.
    MissingExtraError
        TensorRT-RTX is not installed.
    EngineError
        The engine does not pass its trust checks.
    """
    module = import_tensorrt_rtx()
    device = CudaDevice()
    target = known_target(device)
    if engine is None:
        command = f"{build_command(package, variant, NAME)} --target {target}"
        key = rtx_key(package, variant, target, module.__version__)
        engine = EngineCache().load(key, remedy=f"run: {command}")
    # The engine is for its target; its kernels are compiled for the device and driver.
    made_here = f"{engine.identity} {device.facts} {device.driver.version} {driver_release()}"
    return EngineSession(
        module,
        engine.content,
        device,
        package.manifest,
        Messages(module),
        kind=NetworkKind(NAME, "cuda", variant),
        description=f"TensorRT-RTX {module.__version__}, {device.facts.name}, {variant}",
        identity=hashlib.sha256(made_here.encode()).hexdigest(),
    )


def known_target(device: CudaDevice) -> str:
    """Return the target of a device, such as ``sm86``.

    Raises
    ------
    BackendError
        TensorRT-RTX has no target for it.
    """
    target = target_of(device)
    if target not in TARGETS:
        raise BackendError(
            f"TensorRT-RTX has no target {target} for {device.facts.name}, only "
            f"{', '.join(TARGETS)}; choose another --backend"
        )
    return target


def what_is_missing() -> str | None:
    """Return why TensorRT-RTX cannot run here; None if it may."""
    try:
        import_tensorrt_rtx()
        load_driver()
    except SgmfError as error:
        return str(error)
    return None
