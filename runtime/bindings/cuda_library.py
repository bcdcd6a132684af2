"""The compiled CUDA library: where it is, and its functions on device pointers through ctypes."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from segmaformer.runtime.bindings.installed_library import installed_library, load_library
from segmaformer.runtime.bindings.op_library import SelectiveScanArgs
from segmaformer.runtime.errors import BackendError


def cuda_library_path() -> Path:
    """Path of the CUDA library that this installation built.

    Raises
    ------
    BackendError
        The installation carries none.
    """
    return installed_library(
        "libsgmf_cuda",
        what="compiled CUDA library",
        remedy="reinstall segmaformer where nvcc is on the path, with "
        "SKBUILD_CMAKE_DEFINE=SGMF_CUDA=ON to be told what is missing",
    )


def load_cuda_library(path: Path) -> ctypes.CDLL:
    """Load a CUDA library and declare its functions.

    Parameters
    ----------
    path
        The library; it is native code and runs as it is loaded.

    Raises
    ------
    BackendError
        It is one for another machine.
    """
    library = load_library(path)
    args = ctypes.POINTER(SelectiveScanArgs)
    workspace = library.sgmf_selective_scan_cuda_workspace
    workspace.argtypes, workspace.restype = (args, ctypes.c_int32), ctypes.c_size_t
    scan = library.sgmf_selective_scan_cuda
    scan.argtypes = (args, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_void_p)
    scan.restype = ctypes.c_char_p
    address = ctypes.c_void_p
    for name, takes in (
        ("sgmf_clear_lines_cuda", (address, ctypes.c_int64, ctypes.c_int64, address)),
        ("sgmf_blend_tile_cuda", (address, address, address)),
        ("sgmf_divide_lines_cuda", (address, address)),
        ("sgmf_label_resample_cuda", (address, address)),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = takes, ctypes.c_char_p
    return library


@functools.cache
def cuda_library() -> ctypes.CDLL:
    """The loaded CUDA library of this installation.

    Raises
    ------
    BackendError
        The installation carries none, or one for another machine.
    """
    return load_cuda_library(cuda_library_path())


def enqueue(name: str, *arguments: object) -> None:
    """Call a function of the library that takes a stream; nothing is waited for.

    Raises
    ------
    BackendError
        There is no library, or the work was refused or not started: why, in its own words.
    """
    error = getattr(cuda_library(), name)(*arguments)
    if error is not None:
        raise BackendError(f"{name} failed: {error.decode()}")
