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
    for query in (library.sgmf_cuda_device_count, library.sgmf_cuda_multiprocessors):
        query.argtypes, query.restype = (ctypes.POINTER(ctypes.c_int32),), ctypes.c_char_p
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


def device_count() -> int:
    """Number of devices that the NVIDIA driver offers.

    Raises
    ------
    BackendError
        There is no library, no driver or no device.
    """
    return _ask("sgmf_cuda_device_count")


def multiprocessors() -> int:
    """Number of multiprocessors of the calling thread's current device.

    Raises
    ------
    BackendError
        There is no library, no driver or no device.
    """
    return _ask("sgmf_cuda_multiprocessors")


def scan_workspace_bytes(args: SelectiveScanArgs, *, processors: int) -> int:
    """Bytes of device memory that a scan of these sizes needs besides its tensors.

    Parameters
    ----------
    args
        Sizes; the addresses do not matter. Sizes that the scan refuses need none.
    processors
        Multiprocessors of the device.

    Raises
    ------
    BackendError
        There is no library.
    """
    size: int = cuda_library().sgmf_selective_scan_cuda_workspace(ctypes.byref(args), processors)
    return size


def run_selective_scan_cuda(
    args: SelectiveScanArgs,
    *,
    workspace: int,
    workspace_bytes: int,
    processors: int,
    stream: int = 0,
) -> None:
    """Enqueue the scan on the current device; nothing is waited for.

    Parameters
    ----------
    args
        Sizes and device addresses; see ``sgmf/selective_scan_cuda.h``. The memory stays the
        caller's and must live until the scan is done.
    workspace, workspace_bytes
        Device address, aligned to 16 bytes, and size of the scratch memory.
    processors
        Multiprocessors of the device.
    stream
        A ``cudaStream_t``; 0 is the default stream.

    Raises
    ------
    BackendError
        There is no library, or the scan was refused or not started: why, in its own words.
    """
    error = cuda_library().sgmf_selective_scan_cuda(
        ctypes.byref(args), workspace or None, workspace_bytes, processors, stream or None
    )
    if error is not None:
        raise BackendError(f"the selective scan on the GPU failed: {error.decode()}")


def enqueue(name: str, *arguments: object) -> None:
    """Call a function of ``sgmf/label_stream_cuda.h``; nothing is waited for.

    Raises
    ------
    BackendError
        There is no library, or the work was refused or not started: why, in its own words.
    """
    error = getattr(cuda_library(), name)(*arguments)
    if error is not None:
        raise BackendError(f"{name} failed: {error.decode()}")


def _ask(query: str) -> int:
    number = ctypes.c_int32()
    error = getattr(cuda_library(), query)(ctypes.byref(number))
    if error is not None:
        raise BackendError(
            f"no GPU can be used: {error.decode()}; check with nvidia-smi that an NVIDIA driver "
            "runs, is new enough and shows a device, or choose another --backend"
        )
    return number.value
