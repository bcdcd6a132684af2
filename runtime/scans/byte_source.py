"""Place of the voxels' bytes in a file, and reading of no more than needed.

A compressed file of a megabyte may unpack to a gigabyte. So nothing is unpacked ahead of the
reader, and a header that promises more than its file can hold is refused before reading.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from segmaformer.runtime.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"

# Deflate's largest expansion of its input.
_MOST_EXPANSION = 1032
_CHUNK_BYTES = 1 << 16
# zlib's code for detecting gzip or zlib by the first bytes.
_EITHER_HEADER = 32 + zlib.MAX_WBITS


@dataclass(frozen=True)
class ByteSource:
    """Part of a file, which may be compressed by deflate.

    Attributes
    ----------
    start
        Number of bytes in the file before it.
    compressed
        Whether it begins a gzip or zlib stream.
    skip
        Number of bytes to skip after decompression.
    """

    path: Path
    start: int = 0
    compressed: bool = False
    skip: int = 0

    @classmethod
    def at_end(cls, path: Path, count: int, *, after: int = 0) -> ByteSource:
        """Return the last `count` bytes of a file, but none of the first `after`."""
        return cls(path, max(after, path.stat().st_size - count))

    def check_holds(self, count: int) -> None:
        """Refuse a file that is too small for the `count` bytes its header promises.

        Raises
        ------
        InputError
            Even at the best possible compression, the file holds fewer bytes.
        """
        stored = self.path.stat().st_size
        promised = self.start + self.skip + count
        packed = max(0, stored - self.start) if self.compressed else 0
        possible = stored + packed * (_MOST_EXPANSION - 1)
        if promised > possible:
            raise InputError(
                f"{self.path} is cut off or damaged: its header promises {promised} bytes, "
                f"a file of {stored} bytes holds at most {possible}. Copy it again from its source"
            )

    def trailing_bytes(self, stream: BinaryIO, most: int) -> int:
        """Count the bytes that follow in an open stream and, if compressed, behind it in the file.

        At the end of a compressed stream its checksum is compared. Counting stops beyond `most`.
        """
        raw = getattr(stream, "raw", None)
        if not isinstance(raw, _Inflated):
            return self.path.stat().st_size - stream.tell()
        count = 0
        while count <= most and (piece := stream.read(min(_CHUNK_BYTES, most + 1 - count))):
            count += len(piece)
        return count + (raw.left_over or 0)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the part for reading.

        Raises
        ------
        InputError
            Reading shows that the file is damaged or ends too early.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                raw = _Inflated(file) if self.compressed else None
                stream = file if raw is None else io.BufferedReader(raw, _CHUNK_BYTES)
                _pass_over(cast(BinaryIO, stream), self.skip)
                yield cast(BinaryIO, stream)
        except (EOFError, zlib.error) as error:
            if self._is_compressed_twice():
                raise InputError(
                    f"{self.path} holds voxels that are compressed twice; expected once. Save the "
                    "scan again from its source"
                ) from error
            raise InputError(
                f"{self.path} is damaged or was cut off: {error}. Copy it again from its source"
            ) from error

    def _is_compressed_twice(self) -> bool:
        """Tell if the content begins, once unpacked, like that of gzip or zlib again."""
        if not self.compressed:
            return False
        with self.path.open("rb") as file:
            file.seek(self.start)
            content = file.read(_CHUNK_BYTES)
        try:
            for _ in range(2):
                content = zlib.decompressobj(_EITHER_HEADER).decompress(content, _CHUNK_BYTES)
        except zlib.error:
            return False
        return bool(content)


def is_gzip(path: Path) -> bool:
    """Tell if the file begins like one that gzip wrote, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC


class _Inflated(io.RawIOBase):
    """Content of a file's rest: consecutive gzip members, or a zlib stream.

    Checksums are compared at the end of a member. Bytes after the last member are not read; their
    number is in `left_over` once they are reached.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._inflater = zlib.decompressobj(_EITHER_HEADER)
        self._waiting = b""
        self.left_over: int | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        while room and self._inside_member():
            packed = self._waiting or self._file.read(_CHUNK_BYTES)
            unpacked = self._inflater.decompress(packed, len(room))
            self._waiting = self._inflater.unconsumed_tail
            if unpacked:
                room[: len(unpacked)] = unpacked
                return len(unpacked)
            if not packed:
                raise EOFError("the compressed data end too early")
        return 0

    def _inside_member(self) -> bool:
        if self.left_over is not None:
            return False
        if not self._inflater.eof:
            return True
        after = self._inflater.unused_data
        if len(after) < len(GZIP_MAGIC):
            after += self._file.read(_CHUNK_BYTES)
        if not after.startswith(GZIP_MAGIC):
            end = os.fstat(self._file.fileno()).st_size
            self.left_over = len(after) + end - self._file.tell()
            return False
        self._inflater = zlib.decompressobj(_EITHER_HEADER)
        self._waiting = after
        return True


def _pass_over(stream: BinaryIO, count: int) -> None:
    while count:
        passed = len(stream.read(min(count, _CHUNK_BYTES)))
        if not passed:
            raise EOFError("the data end before the first voxel")
        count -= passed
