"""Unpacking of a zip of DICOM images that a stranger may have made.

Names in the zip are never used, so no member can leave its folder or be a link. Sizes that it
states are not believed: what is unpacked is counted.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.system.interruption import check

MOST_MEMBERS = 65_534
"""Largest number of members of a zip, which no CT or MR series reaches."""

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_END, _END_BYTES, _LONGEST_COMMENT = b"PK\x05\x06", 22, 0xFFFF
_LARGE_END, _LARGE_END_BYTES = b"PK\x06\x07", 20
# The list of members is read whole, before anything else can be known.
_MOST_LISTED_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


class TooLargeError(InputError):
    """A scan that came as bytes is larger than what is allowed."""


def is_zip(start: bytes) -> bool:
    """Tell by its first bytes if a file is a zip."""
    return start.startswith(_MAGIC)


def unpack_images(content: BinaryIO, folder: Path, *, most_bytes: int) -> None:
    """Write the members of a zip to an empty folder, under counted names.

    Parameters
    ----------
    content
        The zip.
    folder
        Existing folder.
    most_bytes
        Limit of all members together, unpacked, in bytes.

    Raises
    ------
    TooLargeError
        There are more than `most_bytes`, or too many members.
    InputError
        The zip is damaged, encrypted, or packed in a way that images are not.
    """
    _check_list(content)
    try:
        with zipfile.ZipFile(content) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_members(members, most_bytes)
            left = most_bytes
            for number, member in enumerate(members):
                with archive.open(member) as source, (folder / f"{number:06}").open("xb") as file:
                    left -= _copy(source, file, left, most_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"the zip cannot be unpacked: {error}. Make it again") from None


def _check_list(content: BinaryIO) -> None:
    """Refuse a zip whose list of members is too large to read."""
    size = content.seek(0, os.SEEK_END)
    content.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT))
    tail = content.read()
    content.seek(0)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise InputError("the zip is cut off: its list of members is missing. Upload it again")
    (listed_bytes,) = struct.unpack_from("<I", tail, at + 12)
    is_large = tail[max(0, at - _LARGE_END_BYTES) :].startswith(_LARGE_END)
    if is_large or listed_bytes > _MOST_LISTED_BYTES:
        raise TooLargeError(
            f"the zip is of the form for more than {MOST_MEMBERS} members or 4 GiB; zip the "
            "series alone"
        )


def _check_members(members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    if len(members) > MOST_MEMBERS:
        raise TooLargeError(f"the zip has {len(members)} members; zip the series alone")
    if sum(member.file_size for member in members) > most_bytes:
        raise _beyond(most_bytes)
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            raise InputError("the zip is encrypted; make it without a password")
        if member.compress_type not in _METHODS:
            raise InputError("the zip is packed by another method than deflate; make it again")


def _copy(source: IO[bytes], file: BinaryIO, left: int, most_bytes: int) -> int:
    """Copy a member and return its bytes, at most `left` of them."""
    count = 0
    while chunk := source.read(_CHUNK_BYTES):
        check()
        count += len(chunk)
        if count > left:
            raise _beyond(most_bytes)
        file.write(chunk)
    return count


def _beyond(most_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the zip unpacks to more than {most_bytes >> 20} MiB; zip the series alone"
    )
