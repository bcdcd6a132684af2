"""Writing a file or a folder so that its name never holds half of it.

What is not finished lies beside its target under a name that says which process of which
machine made it. If that process was killed, the next run in the folder removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".sgmf-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "host"


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Path to write to, which becomes `target` when the block ends without an error.

    The path lies in the folder of `target` and has the same suffixes. Where the block
    fails, it is removed and `target` stays as it was.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder of `target` does not exist, or is no folder.
    IsADirectoryError
        `target` is a folder.
    PermissionError
        The folder cannot be written to.
    OSError
        There is no room.
    """
    target = Path(target)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; give the name of a file to write")
    temporary = unfinished_beside(target)
    _create(temporary, target)
    try:
        with named_where_full(target):
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named_where_full(target: Path) -> Iterator[None]:
    """Name `target` in the error of a block that finds no room to write it.

    Raises
    ------
    OSError
        What the system says names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(
            f"cannot write {target}: {error.strerror}; make room there or choose another place"
        ) from error


def check_writable(target: str | Path) -> None:
    """Refuse now what :func:`atomic_path` would refuse after the work; raises the same."""
    with contextlib.suppress(_Probe), atomic_path(target):
        raise _Probe


class _Probe(Exception):  # noqa: N818  (never seen outside)
    """Ends a trial before anything is written."""


def unfinished_beside(target: Path, prefix: str = _PREFIX) -> Path:
    """A new name in the folder of `target`, with its suffixes, that says which process made it."""
    maker = f"{_HOST}-{os.getpid()}-{secrets.token_hex(6)}"
    return target.with_name(f"{prefix}{maker}{''.join(target.suffixes)}")


def abandoned(folder: Path, prefix: str = _PREFIX) -> list[Path]:
    """What killed processes of this user on this machine left in a folder under such names."""
    names = f"{prefix}{_HOST}-"
    found = (path for path in folder.glob(f"{names}*") if _is_own(path))
    makers = ((path, path.name.removeprefix(names).partition("-")[0]) for path in found)
    return [path for path, pid in makers if pid.isdecimal() and not _is_running(int(pid))]


def remove_abandoned(folder: Path) -> int:
    """Remove what killed processes left unfinished; returns how much."""
    paths = abandoned(folder)
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(paths)


def _is_own(path: Path) -> bool:
    try:
        return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another process was faster
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _create(temporary: Path, target: Path) -> None:
    """Create the empty file, or say why nothing can be written beside `target`."""
    try:
        temporary.open("xb").close()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"cannot write {target}: there is no folder {target.parent}; create it first"
        ) from None
    except NotADirectoryError:
        raise NotADirectoryError(
            f"cannot write {target}: {target.parent} is not a folder; choose another place"
        ) from None
    except OSError as error:
        raise PermissionError(
            f"cannot write {target}: {error.strerror} in {target.parent.resolve()}; "
            "change its permissions or choose another folder"
        ) from error
