"""The CUDA library on the processor."""

from __future__ import annotations

import ctypes
from pathlib import Path

from support.native.native_builds import NATIVE, compile_library
from support.native.single_functions import load_cuda_library

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
            NATIVE / "kernels/scan/check_scan.cc",
            ON_HOST / "cuda_on_host.cc",
        ),
        *(optimisation, "-ffp-contract=off", "-Wno-unknown-pragmas", "-DSGMF_ISA=host_element"),
        *(f"-I{ON_HOST}", f"-I{kernels.parent}", "-x", "c++"),
        over_op_library=False,
    )
    return load_cuda_library(path)
