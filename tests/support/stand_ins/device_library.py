"""CUDA library on the processor, with kernels that run as late as its streams."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from support.native.native_builds import NATIVE, compile_library
from support.stand_ins.gpu_fakes import FakeDriver

from segmaformer.runtime.bindings import cuda_library

ON_HOST = Path(__file__).with_name("cuda_on_host")
SOURCES = ("selective_scan.cu", "scan_plan.cc", "blend_tile.cu", "label_resample.cu")


def compile_on_host(
    folder: Path, optimisation: str, kernels: Path = NATIVE / "cuda"
) -> ctypes.CDLL:
    """Return the sources of the library on top of the stand-in for CUDA."""
    path = compile_library(
        folder / "libsgmf_cuda.so",
        (
            *(kernels / source for source in SOURCES),
            NATIVE / "kernels/check_scan.cc",
            ON_HOST / "cuda_on_host.cc",
        ),
        *(optimisation, "-ffp-contract=off", "-Wno-unknown-pragmas", "-DSGMF_ISA=host_element"),
        *(f"-I{ON_HOST}", f"-I{kernels.parent}", "-x", "c++"),
        over_op_library=False,
    )
    return cuda_library.load_cuda_library(path)


def deferred(library: ctypes.CDLL, driver: FakeDriver) -> Any:
    """Build a library whose kernels run when their stream is waited for."""
    return _Deferred(library, driver)


class _Deferred:
    def __init__(self, library: ctypes.CDLL, driver: FakeDriver):
        self._library, self._driver = library, driver

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)

        def enqueue(*arguments: Any) -> None:
            *given, stream = arguments
            # A launch copies its arguments.
            copied = [
                type(each._obj).from_buffer_copy(each._obj) if hasattr(each, "_obj") else each
                for each in given
            ]

            def run() -> None:
                taken = [
                    ctypes.byref(each) if isinstance(each, ctypes.Structure) else each
                    for each in copied
                ]
                error = function(*taken, None)
                if error:
                    raise RuntimeError(error.decode())

            self._driver.held[stream].add(run)

        return enqueue
