"""A GPU that is pretended for native code and Python alike.

Its driver is ``driver_on_host.cc``, whose streams run as late as they may, and the CUDA library's
own sources run over ``cuda_on_host``, each kernel when its stream comes to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.native.native_builds import NATIVE, STAND_INS, compile_library, cuda_include_dir
from support.stand_ins.device_library import compile_on_host

from segmaformer.runtime.bindings import cuda_library
from segmaformer.runtime.bindings.cuda_driver import CudaDevice, CudaDriver, Event, Stream
from segmaformer.runtime.pipeline.device_network import DeviceLogits, DeviceNetwork

_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class HostDriver:
    """The driver and the CUDA library.

    Parameters
    ----------
    folder
        Where they are compiled.
    kernels
        Folder of the CUDA library's sources.
    """

    def __init__(self, folder: Path, kernels: Path = NATIVE / "cuda"):
        include = f"-isystem{cuda_include_dir()}"
        source = STAND_INS / "driver_on_host.cc"
        path = compile_library(folder / "libcuda.so", [source], include, over_op_library=False)
        self.library = ctypes.CDLL(str(path))
        for count in (self.library.count_used_bytes, self.library.count_copied_out_bytes):
            count.restype = ctypes.c_size_t
        over_it = compile_on_host(folder, "-O2", kernels)
        over_it.cuda_on_host_launch_with(ctypes.cast(self.library.launch, ctypes.c_void_p))
        self.kernels = Path(over_it._name)
        self._work: list[Any] = []

    def device(self) -> CudaDevice:
        return CudaDevice(CudaDriver(self.library))

    def enqueue(self, stream: int, work: Callable[[], Any]) -> None:
        """Let a stream call `work` when it comes to it."""
        self._work.append(_WORK(lambda _: work() and None))
        assert not self.library.cuLaunchHostFunc(ctypes.c_void_p(stream), self._work[-1], None)

    def used_bytes(self) -> int:
        return int(self.library.count_used_bytes())

    def copied_out_bytes(self) -> int:
        """Bytes that were ever copied from the device."""
        return int(self.library.count_copied_out_bytes())

    def limit_memory(self, size: int) -> None:
        """Let the device have that many bytes; 0 for more than any test needs."""
        self.library.limit_memory(ctypes.c_size_t(size))

    @contextmanager
    def failing(self, function: str, code: int) -> Iterator[None]:
        self.library.fail(function.encode(), code)
        yield
        self.library.fail(function.encode(), 0)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the runtime find this CUDA library."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda_library, "cuda_library_path", lambda: self.kernels)
            yield


def on_device(
    device: CudaDevice, compute: Callable[[np.ndarray], np.ndarray], tiles_at_once: int = 1
) -> DeviceNetwork:
    """Make a network that computes here and leaves its logits there."""

    def run(tiles: np.ndarray) -> Generator[DeviceLogits, None, None]:
        logits = compute(tiles)
        pinned, stream = device.allocate_pinned(logits.shape), Stream(device)
        pinned.array[...] = logits
        memory = device.allocate(pinned.array.nbytes)
        stream.copy_in(memory, pinned, memory.size)
        computed, used = Event(device), Event(device)
        stream.record(computed)
        try:
            for index in range(len(tiles)):
                address = memory.address + index * pinned.array[0].nbytes
                yield DeviceLogits(address, computed, used)
        finally:
            stream.wait_for(used)
            stream.synchronize()

    return DeviceNetwork(device, run, tiles_at_once)
