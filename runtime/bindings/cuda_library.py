"""Compiled CUDA library, which native code loads."""

from __future__ import annotations

from pathlib import Path

from segmaformer.runtime.bindings.installed_library import installed_library


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
        remedy="reinstall segmaformer from its source where nvcc is on the path, with "
        "SKBUILD_CMAKE_DEFINE=SGMF_CUDA=ON",
    )
