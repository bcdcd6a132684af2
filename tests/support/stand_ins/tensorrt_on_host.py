"""Stand-in machine with a GPU and TensorRT for libsgmf, on the processor.

What is loaded stays loaded, so these functions run in a process of their own, whose
``LD_LIBRARY_PATH`` leads to the stand-in driver.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from support.native.libsgmf import Handle, Info, Statistics, labels_of, volume_of

from segmaformer.runtime.backends.tensorrt.library import TensorRt
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver
from segmaformer.runtime.engines.cache import EngineCache, EngineKey
from segmaformer.runtime.package.reader import Package


@dataclass(frozen=True)
class Machine:
    """Files that a session finds.

    Attributes
    ----------
    nvinfer
        The stand-in for TensorRT.
    version
        What it says of itself.
    cache
        Folder of engines.
    libsgmf
        A copy of the library under test, or None for the installed one.
    environment
        Environment variables by name.
    failing
        Codes of functions of the driver.
    starts, instead_of_runtime
        Whether TensorRT makes a runtime, and the address that it returns otherwise.
    """

    nvinfer: Path
    version: tuple[int, ...]
    cache: Path
    libsgmf: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    failing: Mapping[str, int] = field(default_factory=dict)
    starts: bool = True
    instead_of_runtime: int = 0
    plugins_load: bool = True
    kernels: Path | None = None
    """The CUDA library over ``cuda_on_host``, beside `libsgmf`."""
    most_memory: int = 0
    """Bytes of the device while volumes are segmented; 0 for plenty."""


class Outcome(NamedTuple):
    """Outcome of opening a package and running it, and objects left behind."""

    status: str
    message: str
    backend: str
    labels: np.ndarray | None
    again: str
    held: int
    current: int
    objects: int
    plugins: int
    on_device: bool = False


def driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def key_by_python(version: str, package: Path, plugin: Path | None) -> EngineKey:
    """Return the key under which ``sgmf build`` would keep an engine here, by Python's own code."""
    module: Any = SimpleNamespace(__version__=version)
    messages: Any = None
    digest = hashlib.sha256(plugin.read_bytes()).hexdigest() if plugin else None
    device = CudaDevice(CudaDriver(driver()))
    key = TensorRt(module, messages, device, digest).key(Package.open(package), "fp32")
    # What Python made current must not hide that libsgmf did not.
    assert driver().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0
    return key


def keep_engine(
    machine: Machine,
    package: Path,
    content: bytes,
    *,
    batch: int = 1,
    plugin: Path | None = None,
    **changes: Any,
) -> None:
    """Keep an engine as ``sgmf build`` would, for a machine with `changes`."""
    version = ".".join(map(str, machine.version[:3]))  # as Python's module names it
    key = replace(key_by_python(version, package, plugin).for_batch(batch), **changes)
    EngineCache(machine.cache).store(key, content)


def run(
    machine: Machine,
    package: Path,
    voxels: np.ndarray,
    *,
    stop_at: int | None = None,
    fail_while_running: Mapping[str, int] | None = None,
    **options: Any,
) -> Outcome:
    """Open `package`, segment `voxels` (C, X, Y, Z) twice, and close it."""
    cuda, nvinfer = driver(), _set_up(machine)
    handle = Handle(
        package,
        library=machine.libsgmf,
        backend=b"tensorrt",
        **{"backend_library": bytes(machine.nvinfer), **options},
    )
    status, message, backend, labels, again = handle.opened, handle.open_message, "", None, ""
    on_device = False
    if status == "SGMF_OK":
        backend = handle.get("info", Info()).backend.decode()
        assert handle.call("warm_up") == "SGMF_OK", handle.message
        for function, code in (fail_while_running or {}).items():
            cuda.fail(function.encode(), code)
        labels = np.full(voxels.shape[1:], 99, np.uint16, order="F")
        volume, target = volume_of(voxels), labels_of(labels)
        progress = None if stop_at is None else (lambda done, _: int(done == stop_at))
        cuda.limit_memory(ctypes.c_size_t(machine.most_memory))
        status, message = handle.run(volume, target, progress), handle.message
        for function in fail_while_running or {}:
            cuda.fail(function.encode(), 0)
        again = handle.run(volume, target)
        cuda.limit_memory(ctypes.c_size_t(0))
        on_device = bool(handle.get("statistics", Statistics()).on_device)
    handle.close()
    for name in machine.environment:
        del os.environ[name]
    for function in machine.failing or {}:
        cuda.fail(function.encode(), 0)
    left = (cuda.count_held(), cuda.count_current(), nvinfer.count_objects())
    plugins = nvinfer.count_plugins()
    return Outcome(status, message, backend, labels, again, *left, plugins, on_device)


def load_from(folder: Path, name: str) -> None:
    """Load a copy of libsgmf by a path relative to `folder`, and leave the folder."""
    before = Path.cwd()
    os.chdir(folder)
    ctypes.CDLL(name)
    os.chdir(before)


def open_with(library: Path, cache: Path, package: Path) -> tuple[str, str]:
    """Open a package with any TensorRT; return status and message."""
    os.environ["SGMF_CACHE"] = str(cache)
    handle = Handle(package, backend=b"tensorrt", backend_library=bytes(library))
    return handle.opened, handle.open_message


def _set_up(machine: Machine) -> ctypes.CDLL:
    os.environ.update(machine.environment, SGMF_CACHE=str(machine.cache))
    nvinfer = ctypes.CDLL(str(machine.nvinfer))
    if machine.kernels is not None:
        launch = ctypes.cast(driver().launch, ctypes.c_void_p)
        ctypes.CDLL(str(machine.kernels)).cuda_on_host_launch_with(launch)
    nvinfer.forget_log()
    nvinfer.set_version(*machine.version)
    nvinfer.set_starts(int(machine.starts), ctypes.c_ssize_t(machine.instead_of_runtime))
    nvinfer.set_plugins_load(int(machine.plugins_load))
    for function, code in machine.failing.items():
        driver().fail(function.encode(), code)
    return nvinfer
