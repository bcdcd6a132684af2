"""Compiled op library: its path, its registration with ONNX Runtime, and its kernels."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from segmaformer.runtime.bindings.functions import OP_LIBRARY, declared
from segmaformer.runtime.bindings.installed_library import (
    Library,
    installed_library,
    load_library,
)
from segmaformer.runtime.bindings.kernel_structs import SelectiveScanArgs, SelectiveScanGradientArgs

if TYPE_CHECKING:
    import onnxruntime


def op_library_path() -> Path:
    """Return the path of the op library that this installation built.

    Raises
    ------
    BackendError
        The installation has none.
    """
    return installed_library(
        "libsgmf_ops",
        what="compiled op library",
        remedy="reinstall segmaformer with a C++17 compiler at hand",
    )


def register_op_library(options: onnxruntime.SessionOptions) -> None:
    """Add the ops of the domain ``segmaformer`` to sessions on the CPU with these options.

    The ops run on the session's threads and learn their number here, so set
    ``options.intra_op_num_threads`` first.

    Parameters
    ----------
    options
        Options of the session to be opened; changed in place.

    Raises
    ------
    BackendError
        The installation has none.
    """
    if options.intra_op_num_threads > 0:
        options.add_session_config_entry("segmaformer.threads", str(options.intra_op_num_threads))
    options.register_custom_ops_library(str(op_library_path()))


@functools.cache
def op_library() -> Library:
    """Load the op library.

    Raises
    ------
    BackendError
        The installation has none, or one for another machine.
    """
    return declared(load_library(op_library_path()), OP_LIBRARY)


def cpu_isas() -> list[str]:
    """List the instruction sets that the library can use on this processor, best first."""
    return op_library().sgmf_cpu_isas().decode().split(",")


def run_selective_scan(
    args: SelectiveScanArgs, *, threads: int = 0, isa: str | None = None
) -> None:
    """Run the scan on buffers that the caller keeps alive.

    Parameters
    ----------
    args
        Sizes and addresses; see ``kernels/interface/selective_scan.h``.
    threads
        Number of threads; 0 uses every available processor.
    isa
        One of :func:`cpu_isas`; None uses the first.

    Raises
    ------
    ValueError
        The library refuses an argument.
    """
    error = op_library().sgmf_selective_scan(args, threads, None if isa is None else isa.encode())
    if error:
        raise ValueError(f"selective scan: {error.decode()}")


def run_selective_scan_gradient(
    args: SelectiveScanGradientArgs, *, threads: int = 0, isa: str | None = None
) -> None:
    """Compute the scan's gradients on buffers that the caller keeps alive.

    Parameters
    ----------
    args
        Sizes and addresses; see ``kernels/interface/selective_scan_gradient.h``.
    threads, isa
        As for :func:`run_selective_scan`.

    Raises
    ------
    ValueError
        The library refuses an argument.
    """
    name = None if isa is None else isa.encode()
    error = op_library().sgmf_selective_scan_gradient(args, threads, name)
    if error:
        raise ValueError(f"gradient of the selective scan: {error.decode()}")
