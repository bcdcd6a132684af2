"""Stored answers (``reference.npz``) whose arrays are not what they seem."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hostile.hostile_input import TAKEN, UNVERIFIED, HostileInput
from support.packages.samples import sample_manifest

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.parity.stored_reference import (
    REFERENCE_FILE,
    pack_reference,
    reference_tile,
    stored_reference,
)

MANIFEST = sample_manifest()
TILE = reference_tile(MANIFEST)
LOGITS = np.linspace(-1, 1, 2 * 8**3, dtype=np.float32).reshape(2, 8, 8, 8)
GOOD = pack_reference(TILE, LOGITS, MANIFEST)


def arrays() -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(GOOD)) as stored:
        return dict(stored)


def with_member(name: str, content: bytes, *, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return the good archive with another member of that name."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(GOOD)) as good,
        zipfile.ZipFile(stream, "w", kind, compresslevel=1) as archive,
    ):
        for member in good.namelist():
            archive.writestr(member, content if member == name else good.read(member))
    return stream.getvalue()


def claiming(shape: tuple[int, ...], descr: str = "<f4", data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": descr}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


def changed(**changes: np.ndarray | None) -> bytes:
    stream = io.BytesIO()
    kept = {name: array for name, array in {**arrays(), **changes}.items() if array is not None}
    np.savez_compressed(stream, **kept)
    return stream.getvalue()


def inputs() -> Iterator[HostileInput]:
    yield HostileInput("good", written(GOOD), _read, TAKEN)
    header = b"\x93NUMPY\x01\x00"
    flipped = bytearray(GOOD)
    flipped[len(GOOD) // 2] ^= 0xFF
    contents = {
        "nothing": b"",
        "noise": bytes(range(256)),
        "an empty archive": b"PK\x05\x06" + bytes(18),
        "cut off": GOOD[:-40],
        "half of it": GOOD[: len(GOOD) // 2],
        "a flipped byte": bytes(flipped),
        "no labels": changed(labels=None),
        "a surplus array": changed(more=LOGITS),
        "labels of another shape": changed(labels=np.zeros((8, 8, 9), np.uint8)),
        "labels that are no integers": changed(labels=np.zeros((8, 8, 8), np.float32)),
        "logits of another shape": changed(logits=LOGITS[:1]),
        "logits that are texts": changed(logits=np.full(LOGITS.shape, "x")),
        "another tile": changed(tile=TILE[0] + np.float32(1)),
        "a tile of NaN": changed(tile=np.full_like(TILE[0], np.nan)),
        "a terabyte of logits": with_member("logits.npy", claiming((10**6, 10**6))),
        "logits beyond 64 bits": with_member("logits.npy", claiming((10**30,))),
        "a pickle": with_member("labels.npy", claiming((8, 8, 8), "|O", b"cos\nsystem\n")),
        "an element of a gigabyte": with_member("labels.npy", claiming((8, 8, 8), "|V1000000000")),
        "a bomb": with_member("logits.npy", bytes(200_000_000)),
        "a bomb behind an array": with_member(
            "logits.npy", claiming(LOGITS.shape, data=LOGITS.tobytes() + bytes(200_000_000))
        ),
        "an array cut off": with_member(
            "logits.npy", claiming(LOGITS.shape, data=LOGITS.tobytes()[:-1])
        ),
        "a header of brackets": with_member(
            "tile.npy", header + struct.pack("<H", 9000) + b"(" * 9000
        ),
        "a header of 64 KiB": with_member("tile.npy", header + b"\xff\xff" + b" " * 65535),
        "a header that calls": with_member(
            "tile.npy", header + struct.pack("<H", 30) + b"__import__('os').system('id')\n"
        ),
        "version 2 of the format": with_member("tile.npy", b"\x93NUMPY\x02\x00" + bytes(90)),
        "no magic": with_member("tile.npy", bytes(90)),
    }
    for name, content in contents.items():
        yield HostileInput(name, written(content), _read, UNVERIFIED)


def written(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        package = folder / "model.sgmf"
        package.mkdir()
        write_files(package, MANIFEST, {"fp32.onnx": b"a network", REFERENCE_FILE: content})
        return package

    return write


def _read(path: Path) -> None:
    stored_reference(Package.open(path))
