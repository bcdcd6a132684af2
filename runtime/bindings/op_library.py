"""The compiled op library: where it is, how ONNX Runtime gets it, and its scan through ctypes."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from segmaformer.runtime.bindings.installed_library import installed_library, load_library

if TYPE_CHECKING:
    import onnxruntime

FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2


class SelectiveScanArgs(ctypes.Structure):
    """Mirror of ``sgmf_selective_scan_args`` in ``sgmf/selective_scan.h``."""

    _fields_ = (
        ("element_type", ctypes.c_int32),
        ("delta_softplus", ctypes.c_int32),
        ("reverse", ctypes.c_int32),
        ("batch", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("states", ctypes.c_int64),
        ("u", ctypes.c_void_p),
        ("delta", ctypes.c_void_p),
        ("A", ctypes.c_void_p),
        ("B", ctypes.c_void_p),
        ("C", ctypes.c_void_p),
        ("D", ctypes.c_void_p),
        ("z", ctypes.c_void_p),
        ("delta_bias", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
    )


def op_library_path() -> Path:
    """Path of the op library that this installation built.

    Raises
    ------
    BackendError
        The installation carries none.
    """
    return installed_library(
        "libsgmf_ops",
        what="compiled op library",
        remedy="reinstall segmaformer with a C++17 compiler at hand",
    )


def register_op_library(options: onnxruntime.SessionOptions) -> None:
    """Give sessions on the CPU with these options the ops of the domain ``segmaformer``.

    They run on the session's threads. How many those are they can only learn here, so set
    ``options.intra_op_num_threads`` first.

    Parameters
    ----------
    options
        Options of the session to be opened; changed in place.

    Raises
    ------
    BackendError
        The installation carries none.
    """
    if options.intra_op_num_threads > 0:
        options.add_session_config_entry("segmaformer.threads", str(options.intra_op_num_threads))
    options.register_custom_ops_library(str(op_library_path()))


@functools.cache
def op_library() -> ctypes.CDLL:
    """The loaded op library.

    Raises
    ------
    BackendError
        The installation carries none, or one for another machine.
    """
    library = load_library(op_library_path())
    library.sgmf_selective_scan.argtypes = (
        ctypes.POINTER(SelectiveScanArgs),
        ctypes.c_int32,
        ctypes.c_char_p,
    )
    library.sgmf_selective_scan.restype = ctypes.c_char_p
    library.sgmf_token_op.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
    library.sgmf_token_op.restype = ctypes.c_char_p
    library.sgmf_cpu_isas.restype = ctypes.c_char_p
    library.sgmf_without_last_upsampling.argtypes = (
        ctypes.c_char_p,
        ctypes.c_int64,
        ctypes.c_void_p,
        ctypes.c_int64 * 3,
    )
    library.sgmf_without_last_upsampling.restype = ctypes.c_int64
    library.sgmf_reason_to_refuse.argtypes = (
        ctypes.c_char_p,
        ctypes.c_int64,
        ctypes.c_char_p,
        ctypes.c_int64,
    )
    library.sgmf_reason_to_refuse.restype = ctypes.c_int32
    library.sgmf_available_processors.argtypes = (ctypes.c_char_p,)
    return library


def call_kernel(name: str, args: ctypes.Structure, threads: int) -> None:
    """Call a kernel of the library on buffers that the caller keeps alive.

    Parameters
    ----------
    name
        Of the C function, which takes the address of `args` and a number of threads.
    args
        Its arguments.
    threads
        Threads to use; 0 takes every available processor.

    Raises
    ------
    ValueError
        An argument that the library refuses.
    """
    function = getattr(op_library(), name)
    function.argtypes = (ctypes.c_void_p, ctypes.c_int32)
    function.restype = ctypes.c_char_p
    error = function(ctypes.byref(args), threads)
    if error:
        raise ValueError(f"{name}: {error.decode()}")


def cpu_isas() -> list[str]:
    """Instruction sets that the library can use on this processor, best first."""
    return op_library().sgmf_cpu_isas().decode().split(",")


def run_selective_scan(
    args: SelectiveScanArgs, *, threads: int = 0, isa: str | None = None
) -> None:
    """Run the scan on buffers that the caller keeps alive.

    Parameters
    ----------
    args
        Sizes and addresses; see ``sgmf/selective_scan.h``.
    threads
        Threads to use; 0 takes every available processor.
    isa
        One of :func:`cpu_isas`; None takes the first.

    Raises
    ------
    ValueError
        An argument that the library refuses.
    """
    error = op_library().sgmf_selective_scan(
        ctypes.byref(args), threads, None if isa is None else isa.encode()
    )
    if error:
        raise ValueError(f"selective scan: {error.decode()}")
