"""Compiled CUDA library: its path, and its functions on device pointers."""

from __future__ import annotations

import functools
from pathlib import Path

from segmaformer.runtime.bindings.functions import CUDA_LIBRARY, declared
from segmaformer.runtime.bindings.installed_library import (
    Library,
    installed_library,
    load_library,
)
from segmaformer.runtime.errors import BackendError


def cuda_library_path() -> Path:
    """Return the path of the CUDA library that this installation built.

    Raises
    ------
    BackendError
        The installation has none.
    """
    return installed_library(
        "libsgmf_cuda",
        what="compiled CUDA library",
        remedy="reinstall segmaformer where nvcc is on the path, with "
        "SKBUILD_CMAKE_DEFINE=SGMF_CUDA=ON to be told what is missing",
    )


def load_cuda_library(path: Path) -> Library:
    """Load a CUDA library and declare its functions.

    Parameters
    ----------
    path
        Path of the library; it is native code and runs when it is loaded.

    Raises
    ------
    BackendError
        The library is for another machine.
    """
    return declared(load_library(path), CUDA_LIBRARY)


@functools.cache
def cuda_library() -> Library:
    """Load the CUDA library of this installation.

    Raises
    ------
    BackendError
        The installation has none, or one for another machine.
    """
    return load_cuda_library(cuda_library_path())


def enqueue(name: str, *arguments: object) -> None:
    """Call a function of the library that takes a stream, without waiting.

    Raises
    ------
    BackendError
        There is no library, or the work was refused or not started; the message says why.
    """
    error = getattr(cuda_library(), name)(*arguments)
    if error is not None:
        raise BackendError(f"{name} failed: {error.decode()}")
