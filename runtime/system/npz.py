"""Reader of arrays from an untrusted ``.npz``.

Each member states the size of its array, twice, and may be compressed a thousandfold. So nothing
is unpacked before its stated size has been compared with the expected one.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from tokenize import TokenError
from typing import IO

import numpy as np

UNREADABLE = (ValueError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)
"""Errors of :func:`read_npz`; RuntimeError is an encryption or compression unknown to Python."""

_SUFFIX = ".npy"


def read_npz(
    file: IO[bytes], expected: Mapping[str, tuple[tuple[int, ...], str]]
) -> dict[str, np.ndarray]:
    """Read arrays of known names, shapes and kinds.

    Parameters
    ----------
    file
        File, open for reading and seeking.
    expected
        Shape and kinds of each array's elements, such as ``"iu"`` for integers, by name.

    Raises
    ------
    UNREADABLE
        The file is no ``.npz``, is damaged, or holds other arrays.
    """
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        names = {name.removesuffix(_SUFFIX) for name in archive.namelist()}
        if names != set(expected):
            raise ValueError(f"it holds {sorted(names)}; expected {sorted(expected)}")
        for name, (shape, kinds) in expected.items():
            with archive.open(name + _SUFFIX) as member:
                arrays[name] = _read_array(member, name, shape, kinds)
    return arrays


def _read_array(member: IO[bytes], name: str, shape: tuple[int, ...], kinds: str) -> np.ndarray:
    if np.lib.format.read_magic(member) != (1, 0):
        raise ValueError(f"{name} is of another version of NumPy's format than 1.0")
    try:
        found, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
    except (SyntaxError, TokenError, TypeError, RecursionError, MemoryError) as error:
        # NumPy evaluates the header as Python's literals.
        raise ValueError(f"{name} has a header that cannot be read: {error}") from None
    if found != shape or fortran_order or dtype.kind not in kinds:
        raise ValueError(
            f"{name} has shape {found} and type {dtype}; expected shape {shape} and a type of the "
            f"kinds {kinds!r}, in C order"
        )
    size = math.prod(shape) * dtype.itemsize
    content = member.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{name} does not hold the {size} bytes of its shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape)
