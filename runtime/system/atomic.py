"""Writing of files so that a name never belongs to an incomplete file.

An unfinished file lies beside its target, see :mod:`segmaformer.runtime.system.unfinished`, and
is written through the descriptor that created it: no other process can put a file in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from segmaformer.runtime.system.unfinished import completing, create_file, discard, forget

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class UnfinishedFile:
    """A file that is being written; as a path it is its final one.

    Attributes
    ----------
    target
        Final path.
    stream
        Open stream for writing and reading it.
    """

    target: Path
    stream: BinaryIO

    def __fspath__(self) -> str:
        return os.fspath(self.target)


Target = str | Path | UnfinishedFile
"""File to write: its path, or one that is begun already."""


@contextmanager
def atomic_file(target: Target) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when the block ends without an error.

    Parameters
    ----------
    target
        Path of the file. A file that is begun already is written to, and finished by its owner.

    Raises
    ------
    OSError
        As for :func:`unfinished_file`.
    """
    if isinstance(target, UnfinishedFile):
        yield target.stream
        return
    with unfinished_file(target) as begun:
        yield begun.stream


@contextmanager
def unfinished_file(target: str | Path) -> Iterator[UnfinishedFile]:
    """Create a file that becomes `target` when the block ends without an error.

    If the block fails, the file is removed and `target` stays as it was.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder of `target` does not exist, or is no folder.
    IsADirectoryError
        `target` is a folder.
    PermissionError
        The folder cannot be written to.
    OSError
        The name is too long, or there is no room.
    """
    target = Path(target)
    _check_name(target)
    with named_where_full(target):
        path, descriptor = _create(target)
    try:
        with named_where_full(target), os.fdopen(descriptor, "w+b") as stream:
            yield UnfinishedFile(target, stream)
            stream.flush()
            os.fsync(descriptor)
            with completing():
                os.replace(path, target)
                forget(path)
    finally:
        discard(path)


@contextmanager
def named_where_full(target: Path) -> Iterator[None]:
    """Name `target` in the error if the block runs out of room.

    Raises
    ------
    OSError
        There is no room; the system's own message names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(
            f"cannot write {target}: {error.strerror}; make room there or choose another place"
        ) from error


def check_writable(target: str | Path) -> None:
    """Raise early the errors that :func:`unfinished_file` would raise after the work."""
    with contextlib.suppress(_Probe), unfinished_file(target):
        raise _Probe


class _Probe(Exception):  # noqa: N818  (never seen outside)
    """End of a trial before anything is written."""


def _check_name(target: Path) -> None:
    """Refuse a folder, and a name that the system would only refuse after the work."""
    try:
        is_folder = target.is_dir()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise OSError(f"cannot write {target}: {error.strerror}; give it a shorter name") from error
    if is_folder:
        raise IsADirectoryError(f"{target} is a folder; give the name of a file to write")


def _create(target: Path) -> tuple[Path, int]:
    """Create the empty file, or raise an error that says why `target` cannot be written."""
    try:
        return create_file(target)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"cannot write {target}: there is no folder {target.parent}; create it first"
        ) from None
    except NotADirectoryError:
        raise NotADirectoryError(
            f"cannot write {target}: {target.parent} is not a folder; choose another place"
        ) from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise PermissionError(
            f"cannot write {target}: {error.strerror} in {target.parent.resolve()}; "
            "change its permissions or choose another folder"
        ) from error
