"""Opening of DICOM files: the data set behind preamble and file meta information.

A file may lack preamble or file meta information, and a deflated one may unpack to gigabytes. So no
more is unpacked than a header may hold.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.encoding import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    TransferSyntax,
    transfer_syntax,
)
from segmaformer.runtime.scans.file_kinds import DICOM_AT, DICOM_MAGIC

LONGEST_HEADER = 1 << 25
"""Most bytes of a header that are unpacked."""

LONGEST_META = 1 << 16
"""Most bytes of preamble and file meta information."""

LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN"})
LONG_VRS |= {b"UR", b"UT", b"UV"}
"""Types whose elements state their length in four bytes."""

_CHUNK_BYTES = 1 << 15
_NO_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
_RAW_DEFLATE = -zlib.MAX_WBITS
_DIRECTORY = "1.2.840.10008.1.3.10"
_META_UIDS = {2: "class", 3: "instance", 16: "syntax"}


@dataclass(frozen=True)
class OpenedFile:
    """Place and encoding of a file's data set.

    Attributes
    ----------
    syntax
        Transfer syntax; None if it is unknown.
    syntax_uid
        Its UID, empty if the file states none.
    at
        Number of bytes before the data set.
    sop_class_uid, sop_instance_uid
        UIDs of the file meta information; empty if there are none.
    """

    path: Path
    syntax: TransferSyntax | None
    syntax_uid: str
    at: int
    sop_class_uid: str
    sop_instance_uid: str

    @property
    def is_directory(self) -> bool:
        """True for a DICOMDIR, an index of other files."""
        return self.sop_class_uid == _DIRECTORY


def open_file(path: Path) -> OpenedFile | None:
    """Read a file's file meta information, if it has any; None if the file is no DICOM.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open("rb") as stream:
        return opened_file(path, stream.read(LONGEST_META))


@contextmanager
def as_input_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading files below a path into errors of the input that name the file."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be read: {error.strerror or error}; make it "
            "readable, or take it away"
        ) from error


def is_dicom(start: bytes) -> bool:
    """Tell if a file begins like DICOM, with or without a preamble."""
    return opened_file(Path(), start) is not None


def opened_file(path: Path, start: bytes) -> OpenedFile | None:
    """Do as :func:`open_file` with a file's first bytes: all, or `LONGEST_META` of a longer one."""
    at = DICOM_AT + len(DICOM_MAGIC) if is_dicom_part_10(start) else 0
    uids, data_at = _meta_uids(start, at)
    uid = uids.get("syntax", "")
    guessed = _guessed_syntax(start[data_at : data_at + 8])
    if not at and not uids and (guessed is None or not _begins_plausibly(start)):
        return None
    syntax = transfer_syntax(uid) if uid else guessed
    return OpenedFile(path, syntax, uid, data_at, uids.get("class", ""), uids.get("instance", ""))


def is_dicom_part_10(start: bytes) -> bool:
    """Tell if a file's first bytes are a preamble and DICOM's magic."""
    return start[DICOM_AT : DICOM_AT + len(DICOM_MAGIC)] == DICOM_MAGIC


class Window:
    """Bytes of an opened file's data set, read or unpacked as far as they are needed.

    Positions count from the start of the data set once it is unpacked.

    Attributes
    ----------
    end
        Number of bytes in the data set; of a deflated one, as many as a header may hold.
    """

    def __init__(self, stream: BinaryIO, file: OpenedFile):
        self._stream = stream
        self._first = file.at
        self._block = b""
        self._block_at = 0
        self._is_whole = file.syntax is not None and file.syntax.deflated
        if self._is_whole:
            self._block = inflate_start(stream, file, LONGEST_HEADER)
            self.end = len(self._block)
        else:
            self.end = stream.seek(0, 2) - file.at

    def take(self, at: int, count: int) -> bytes:
        """Return `count` bytes, or fewer at the end."""
        start = at - self._block_at
        if start < 0 or start + count > len(self._block):
            if self._is_whole:
                return self._block[at : at + count]
            self._stream.seek(self._first + at)
            self._block = self._stream.read(max(count, _CHUNK_BYTES))
            self._block_at, start = at, 0
        return self._block[start : start + count]


def inflate_start(stream: BinaryIO, file: OpenedFile, most: int) -> bytes:
    """Unpack the first bytes of a deflated data set, at most `most`.

    Raises
    ------
    InputError
        The data are damaged.
    """
    inflater = zlib.decompressobj(_RAW_DEFLATE)
    stream.seek(file.at)
    pieces: list[bytes] = []
    left = most
    try:
        while left and not inflater.eof and (packed := stream.read(_CHUNK_BYTES)):
            while left and packed:
                piece = inflater.decompress(packed, left)
                packed = inflater.unconsumed_tail
                left -= len(piece)
                pieces.append(piece)
    except zlib.error as error:
        raise InputError(f"{file.path} is damaged: its deflated data set cannot be unpacked") from (
            error
        )
    return b"".join(pieces)


def _meta_uids(start: bytes, at: int) -> tuple[dict[str, str], int]:
    """Return UIDs of the file meta information at a position, and where it ends."""
    uids: dict[str, str] = {}
    while start[at : at + 2] == b"\x02\0" and start[at + 4 : at + 6].isalpha():
        element = int.from_bytes(start[at + 2 : at + 4], "little")
        is_long = start[at + 4 : at + 6] in LONG_VRS
        size_at, size = (at + 8, 4) if is_long else (at + 6, 2)
        value_at = size_at + size
        end = value_at + int.from_bytes(start[size_at:value_at], "little")
        if end > len(start):
            break
        if element in _META_UIDS:
            uids[_META_UIDS[element]] = plain_text(start[value_at:end])
        at = end
    return uids, at


def plain_text(value: bytes) -> str:
    """Decode a UID or another text, without padding and characters that control a terminal."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = text.strip(" \0\t\r\n")
    return text if text.isprintable() else text.translate(_NO_CONTROLS)


def _guessed_syntax(start: bytes) -> TransferSyntax | None:
    """Guess the encoding of a data set by its first element, of group 8 as a rule."""
    if len(start) < 8:
        return None
    if start[4:6].isalpha() and start[4:6].isupper():
        return EXPLICIT if start[1] == 0 else BIG_ENDIAN
    return IMPLICIT


def _begins_plausibly(start: bytes) -> bool:
    """Tell if bytes without DICOM's magic begin like a data set: with a short element of group 8.

    So begin files without a preamble. A text or another binary file does not.
    """
    guessed = _guessed_syntax(start)
    if guessed is None:
        return False
    order = guessed.byte_order
    group = int.from_bytes(start[:2], order)
    element = int.from_bytes(start[2:4], order)
    size = start[6:8] if guessed.explicit else start[4:8]
    return group == 8 and element <= 0x100 and int.from_bytes(size, order) <= 1024
