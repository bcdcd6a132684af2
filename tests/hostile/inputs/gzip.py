"""Compressed scans that are damaged, or unpack to something else than they seem to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from hostile.hostile_input import REFUSED, TAKEN, HostileInput, read_as_scan
from hostile.inputs.nifti import file_of, nifti

PLAIN = nifti()
PACKED = gzip.compress(PLAIN, mtime=0)


def inputs() -> Iterator[HostileInput]:
    flipped = bytearray(PACKED)
    flipped[len(PACKED) // 2] ^= 0xFF
    contents: dict[str, tuple[bytes, int]] = {
        "plain": (PACKED, TAKEN),
        "stored": (gzip.compress(PLAIN, 0, mtime=0), TAKEN),
        "two members": (
            gzip.compress(PLAIN[:400], mtime=0) + gzip.compress(PLAIN[400:], mtime=0),
            TAKEN,
        ),
        "an empty member between": (
            gzip.compress(PLAIN[:400], mtime=0)
            + gzip.compress(b"", mtime=0)
            + gzip.compress(PLAIN[400:], mtime=0),
            TAKEN,
        ),
        "zeros after it": (PACKED + bytes(512), TAKEN),
        "a name and a comment": (_with_name(b"\x1b[2J../../etc/passwd"), TAKEN),
        "the magic alone": (PACKED[:2], REFUSED),
        "the first ten bytes": (PACKED[:10], REFUSED),
        "cut off in the header": (gzip.compress(PLAIN, 0, mtime=0)[:200], REFUSED),
        "cut off in the voxels": (PACKED[: len(PACKED) // 2], REFUSED),
        "the checksum cut off": (PACKED[:-8], REFUSED),
        "half of the checksum": (PACKED[:-4], REFUSED),
        "another checksum": (PACKED[:-8] + struct.pack("<I", 1) + PACKED[-4:], REFUSED),
        "another length": (PACKED[:-4] + struct.pack("<I", 1), REFUSED),
        "a flipped byte": (bytes(flipped), REFUSED),
        "a method that does not exist": (PACKED[:2] + b"\x07" + PACKED[3:], REFUSED),
        "reserved flags": (PACKED[:3] + b"\xe0" + PACKED[4:], REFUSED),
        "twice": (gzip.compress(PACKED, mtime=0), REFUSED),
        "three times": (gzip.compress(gzip.compress(PACKED, mtime=0), mtime=0), REFUSED),
        "an empty file": (gzip.compress(b"", mtime=0), REFUSED),
        "text": (gzip.compress(b"no scan\n" * 99, mtime=0), REFUSED),
        "noise after the magic": (PACKED[:10] + bytes(range(256)) * 4, REFUSED),
        "a few bytes after the voxels": (gzip.compress(PLAIN + b"x", mtime=0), TAKEN),
        "the same again after it": (PACKED + PACKED, TAKEN),
        "a bomb after the voxels": (gzip.compress(PLAIN + bytes(50_000_000), mtime=0), REFUSED),
        "a bomb of members": (PACKED + gzip.compress(b"", mtime=0) * 20_000, TAKEN),
        "a promise of more than deflate can hold": (
            gzip.compress(nifti({"dim": [3, 2000, 2000, 2000, 1, 1, 1, 1]}), mtime=0),
            REFUSED,
        ),
        "a bomb before the voxels": (
            gzip.compress(nifti({"vox_offset": 40_000_000.0})[:352] + bytes(40_000_000), mtime=0),
            REFUSED,
        ),
        "zlib": (zlib.compress(PLAIN), REFUSED),
        "bzip2": (bz2.compress(PLAIN), REFUSED),
        "xz": (lzma.compress(PLAIN), REFUSED),
        "a zip": (_zip(), REFUSED),
        "a tar": (_tar(), REFUSED),
    }
    for name, (content, verdict) in contents.items():
        yield HostileInput(name, file_of(content, "scan.nii.gz"), read_as_scan, verdict)


def _with_name(name: bytes) -> bytes:
    return PACKED[:3] + b"\x18" + PACKED[4:10] + name + b"\0" + b"comment\0" + PACKED[10:]


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("scan.nii", PLAIN)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("scan.nii")
        entry.size = len(PLAIN)
        archive.addfile(entry, io.BytesIO(PLAIN))
    return stream.getvalue()
