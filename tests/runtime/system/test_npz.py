"""Check that a ``.npz`` is unpacked only after its claims were compared."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from support.scans.scan_files import peak_memory

from segmaformer.runtime.system.npz import read_npz

SHAPE = (3, 4)
EXPECTED = {"a": (SHAPE, "f"), "b": ((2,), "iu")}
A, B = np.arange(12, dtype=np.float32).reshape(SHAPE), np.array([1, 2], np.uint8)


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def with_member(content: bytes) -> bytes:
    """Write an archive whose ``a`` has these bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
        archive.writestr("b.npy", _member(B))
    return stream.getvalue()


def _member(array: np.ndarray, shape: tuple[int, ...] | None = None, descr: str = "") -> bytes:
    stream = io.BytesIO()
    header = {
        "shape": shape or array.shape,
        "fortran_order": False,
        "descr": descr or np.lib.format.dtype_to_descr(array.dtype),
    }
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


def test_arrays_come_back() -> None:
    found = read_npz(io.BytesIO(npz(a=A, b=B)), EXPECTED)
    np.testing.assert_array_equal(found["a"], A)
    np.testing.assert_array_equal(found["b"], B)


def _lying_directory() -> bytes:
    """Write an archive whose directory says that a member has almost 4 GiB."""
    content = bytearray(with_member(_member(A, (10**9,))))
    size = len(_member(A, (10**9,)))
    for place in range(len(content) - 4):
        if struct.unpack_from("<I", content, place)[0] == size:
            struct.pack_into("<I", content, place, 2**32 - 2)
    return bytes(content)


BAD: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"PK and no more",
    "empty": lambda: b"",
    "cut off": lambda: npz(a=A, b=B)[:-30],
    "a missing array": lambda: npz(a=A),
    "a surplus array": lambda: npz(a=A, b=B, c=B),
    "another shape": lambda: npz(a=A.T, b=B),
    "another type": lambda: npz(a=A.astype(int), b=B),
    "objects": lambda: with_member(_member(A, descr="|O")),
    "a huge shape": lambda: with_member(_member(A, (10**6, 10**6))),
    "a shape beyond 64 bits": lambda: with_member(_member(A, (10**30,))),
    "a negative shape": lambda: with_member(_member(A, (-3, -4))),
    "fewer bytes than its shape": lambda: with_member(_member(A)[:-1]),
    "more bytes than its shape": lambda: with_member(_member(A) + b"\0"),
    "a bomb of zeros": lambda: with_member(_member(A) + bytes(50_000_000)),
    "a bomb before the array": lambda: with_member(bytes(50_000_000)),
    "version 9 of the format": lambda: with_member(b"\x93NUMPY\x09\x00" + bytes(20)),
    "a header that is no dictionary": lambda: with_member(b"\x93NUMPY\x01\x00\x06\x00[[[[[\n"),
    "a deeply nested header": lambda: with_member(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9001) + b"(" * 9000 + b"\n"
    ),
    "a directory that lies": _lying_directory,
}


@pytest.mark.parametrize("kind", BAD)
def test_others_are_refused_before_they_take_memory(kind: str) -> None:
    content = BAD[kind]()
    with (
        peak_memory() as peak,
        pytest.raises((ValueError, OSError, EOFError, zipfile.BadZipFile)),
    ):
        read_npz(io.BytesIO(content), EXPECTED)
    assert peak() < 2_000_000
