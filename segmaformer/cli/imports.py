"""Imports without a package that another one loads for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(package: str) -> Iterator[None]:
    """Let a package seem to be missing during imports, unless it is loaded already.

    nibabel loads pydicom where it is installed, for extensions of NIfTI that no command reads. That
    takes longer than all of nibabel.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
