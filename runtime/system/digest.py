"""SHA-256 of files."""

from __future__ import annotations

import hashlib
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


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
