"""Compiled libraries of this installation, the only ones that are loaded."""

from __future__ import annotations

import ctypes
from pathlib import Path

from segmaformer.runtime.errors import BackendError

Library = ctypes.CDLL
"""Type of a loaded library."""


def installed_library(stem: str, *, what: str, remedy: str) -> Path:
    """Return the path of a library that was built with this installation.

    Parameters
    ----------
    stem
        File name without its ending, such as ``libsgmf_ops``.
    what
        Name of the library in the error.
    remedy
        Advice in the error.

    Raises
    ------
    BackendError
        The installation has none.
    """
    import segmaformer.runtime

    for folder in segmaformer.runtime.__path__:
        found = sorted((Path(folder) / "lib").glob(f"{stem}.*"))
        if found:
            return found[0].resolve()
    raise BackendError(f"the {what} {stem} is not part of this installation; {remedy}")


def load_library(path: Path) -> Library:
    """Load a compiled library; it is native code and runs when it is loaded.

    Raises
    ------
    BackendError
        The library is for another machine.
    """
    try:
        return Library(str(path))
    except OSError as error:
        raise BackendError(
            f"{path} cannot be loaded ({error}); reinstall segmaformer on this machine"
        ) from error
