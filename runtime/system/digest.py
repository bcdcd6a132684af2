"""SHA-256 of files, and their size and time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from segmaformer.runtime.system.atomic import Target, UnfinishedFile

_CHUNK_BYTES = 1 << 20


def sha256_of(file: Target) -> str:
    """Compute the SHA-256 of a file, in hexadecimal; read a mebibyte at a time."""
    if isinstance(file, UnfinishedFile):
        end = file.stream.tell()
        file.stream.seek(0)
        digest = _sha256(file.stream)
        file.stream.seek(end)
        return digest
    with Path(file).open("rb") as stream:
        return _sha256(stream)


def sha256_of_all(files: Iterable[Path]) -> str:
    """Compute the SHA-256 of files' own ones, in hexadecimal, whatever their names and order."""
    digests = sorted(map(sha256_of, files))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def file_size_and_time(file: Target) -> dict[str, int]:
    """Return ``bytes`` and ``modified_ns`` of a file: its size, and the time of the last change."""
    if isinstance(file, UnfinishedFile):
        file.stream.flush()
        return size_and_time(os.fstat(file.stream.fileno()))
    return size_and_time(os.stat(file))


def size_and_time(found: os.stat_result) -> dict[str, int]:
    """Return what :func:`file_size_and_time` does, of a file that was looked up."""
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
