"""Check of the zip archive of ``torch.save`` before any of it is used.

PyTorch does not compare the checksums that it stores, so a flipped bit would become a weight.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, Final

from segmaformer.runtime.errors import InputError

_BLOCK_BYTES: Final = 1 << 20
_MOST_MEMBERS: Final = 1 << 15
_MOST_DIRECTORY_BYTES: Final = 1 << 23
_MOST_EXPANSION: Final = 20
"""Limit of an archive's unpacked size, as a multiple of its file's; weights hardly compress."""

_END_SIGNATURE: Final = b"PK\5\6"
_END_BYTES: Final = 22
_ZIP64_LOCATOR: Final = b"PK\6\7"
_ZIP64_LOCATOR_BYTES: Final = 20
_ZIP64_END_BYTES: Final = 56
_MOST_COMMENT_BYTES: Final = 65535
_ENCRYPTED: Final = 1


def check_zip(file: IO[bytes], path: Path) -> tuple[str, ...]:
    """Check directory, sizes and checksums of every member, a mebibyte at a time.

    Parameters
    ----------
    file
        The archive; its position is restored.
    path
        Name of the file in messages.

    Returns
    -------
    tuple of str
        A sentence if the file was written without checksums, as PyTorch can be told to.

    Raises
    ------
    InputError
        A member is damaged, encrypted, listed twice or larger than the file admits, or
        ``torch.save`` did not write the archive.
    """
    names, sentences = check_members(file, path)
    _check_writer(names, path)
    return sentences


def check_members(file: IO[bytes], path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Check an archive as :func:`check_zip` does, whoever wrote it.

    Returns
    -------
    names : list of str
        Names of the members.
    sentences : tuple of str
        A sentence if the file was written without checksums.

    Raises
    ------
    InputError
        A member is damaged, encrypted, listed twice or larger than the file admits.
    """
    start = file.tell()
    try:
        members = _members(file, path)
        names = [member.filename for member in members]
        _check_unique(names, path)
        _check_sizes(members, os.fstat(file.fileno()).st_size, path)
        return names, _check_content(file, members, path)
    finally:
        file.seek(start)


def _damaged(path: Path, found: str) -> InputError:
    return InputError(f"{path} is damaged: {found}; copy or download it again")


def _members(file: IO[bytes], path: Path) -> list[zipfile.ZipInfo]:
    """Read entries of the central directory, after bounding its size."""
    size = os.fstat(file.fileno()).st_size
    tail_start = max(0, size - _MOST_COMMENT_BYTES - _END_BYTES - _ZIP64_LOCATOR_BYTES)
    file.seek(tail_start)
    tail = file.read()
    end = tail.rfind(_END_SIGNATURE)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise _damaged(path, "the directory at the end of its zip archive is missing")
    count, directory_bytes = struct.unpack_from("<HL", tail, end + 10)
    locator = tail[max(0, end - _ZIP64_LOCATOR_BYTES) : end]
    if locator.startswith(_ZIP64_LOCATOR):  # zipfile prefers it over the short record
        count, directory_bytes = _zip64_end(file, locator, path)
    if directory_bytes > size:
        raise _damaged(path, "the directory of its zip archive is stated larger than the file")
    if count > _MOST_MEMBERS or directory_bytes > _MOST_DIRECTORY_BYTES:
        raise InputError(
            f"{path} states {count} members in a directory of {directory_bytes} bytes; no "
            f"checkpoint has more than {_MOST_MEMBERS}"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except _UNREADABLE as error:
        raise _damaged(path, f"the directory of its zip archive cannot be read ({error})") from None


_UNREADABLE: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Errors that ``zipfile`` raises at an archive with damaged bits."""


def _zip64_end(file: IO[bytes], locator: bytes, path: Path) -> tuple[int, int]:
    """Return number of members and bytes of a directory too large for the short record."""
    if len(locator) == _ZIP64_LOCATOR_BYTES:
        (offset,) = struct.unpack_from("<Q", locator, 8)
        if offset < os.fstat(file.fileno()).st_size:
            file.seek(offset)
            record = file.read(_ZIP64_END_BYTES)
            if len(record) == _ZIP64_END_BYTES and record.startswith(b"PK\6\6"):
                count, directory_bytes = struct.unpack_from("<QQ", record, 32)
                return count, directory_bytes
    raise _damaged(path, "the end of its zip archive points nowhere")


def _check_unique(names: list[str], path: Path) -> None:
    twice, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise InputError(
            f"{path} lists {twice!r} more than once in its zip archive, so it is not as PyTorch "
            "wrote it; save it again"
        )


def _check_writer(names: list[str], path: Path) -> None:
    """Refuse archives that ``torch.save`` did not write."""
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise InputError(
            f"{path} is a TorchScript archive, which holds a program; save the weights alone where "
            "it was written, torch.save(model.state_dict(), 'weights.pth')"
        )
    if "data.pkl" not in inner:
        raise InputError(f"{path} is {_other_archive(names)}")


def _other_archive(names: list[str]) -> str:
    checkpoints = [
        name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors"))
    ]
    if "model.weights.h5" in names:
        return "a Keras model, not a checkpoint of PyTorch; save a state_dict with torch.save"
    if checkpoints:
        return f"a zip archive; unpack it and give the checkpoint in it, such as {checkpoints[0]}"
    if any(name.endswith("manifest.json") for name in names):
        return (
            "a zip archive of a package, not a checkpoint; unpack it and give it to sgmf infer -m"
        )
    if names and all(name.endswith(".npy") for name in names):
        return "a file of NumPy arrays (.npz), not a checkpoint; save a state_dict with torch.save"
    return (
        "a zip archive without data.pkl, which torch.save always writes; give the checkpoint "
        f"itself. It holds {', '.join(names[:3]) or 'nothing'}"
    )


def _check_sizes(members: list[zipfile.ZipInfo], size: int, path: Path) -> None:
    """Refuse members that overlap, lie beyond the end or expand more than weights do."""
    end = 0
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < end or member.header_offset + member.compress_size > size:
            raise _damaged(
                path, f"{member.filename!r} takes more room than its zip archive has for it"
            )
        end = member.header_offset + member.compress_size
        if member.flag_bits & _ENCRYPTED:
            raise InputError(f"{path} is encrypted; give the checkpoint itself")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise _damaged(path, f"{member.filename!r} is stated with two different sizes")
    held = sum(member.file_size for member in members)
    if held > _MOST_EXPANSION * size:
        raise InputError(
            f"{path} has {size} bytes and states to hold {held}; no weights compress like that. "
            "Save the checkpoint again with torch.save"
        )


def _check_content(file: IO[bytes], members: list[zipfile.ZipInfo], path: Path) -> tuple[str, ...]:
    written = [member for member in members if member.file_size]
    if written and not any(member.CRC for member in written):
        return (
            "Checksums: the file was saved without any (set_crc32_options), so damage to its "
            "weights cannot be seen.",
        )
    with zipfile.ZipFile(file) as archive:
        for member in members:
            try:
                with archive.open(member) as content:
                    while content.read(_BLOCK_BYTES):
                        pass
            except _UNREADABLE as error:
                raise _damaged(
                    path, f"{member.filename!r} in it is not as saved ({error})"
                ) from None
    return ()
