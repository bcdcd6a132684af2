"""Files that a process has begun and not finished: their name, their lock and their end.

An unfinished file lies beside its target under a name of its own. Its process holds a lock
(``flock``) on it until it is finished; the lock of a folder is on a file ``NAME.lock`` beside it.
The system releases a lock when its process ends in any way, and shows it to every process that
reaches the file system, even from another container with the same host name and other process
numbers. So an unlocked file was left by a killed process, and the next run in the folder removes
it.

If a file system has no locks, nothing is removed. NFS has them unless it is mounted with
``nolock`` or ``local_lock``; names carry the host's, so that even there no machine removes another
one's files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system, so no such locks
    fcntl = None  # type: ignore[assignment]

PREFIX = ".sgmf-"
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_LOCK_SUFFIX = ".lock"
_TRIES = 100
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_EXISTING = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_HELD_BY_OTHERS = (errno.EWOULDBLOCK, errno.EACCES)

_own: dict[Path, None] = {}
_completing = threading.RLock()


def name_beside(target: Path, prefix: str = PREFIX, token: str | None = None) -> Path:
    """Return a name in the folder of `target`; a new one, or that of an earlier `token`."""
    return target.with_name(f"{prefix}{_HOST}-{token or secrets.token_hex(6)}")


def token_of(path: Path) -> str:
    """Return the token in a name, which all names of one piece of work share."""
    return path.name.removesuffix(_LOCK_SUFFIX).rpartition("-")[2]


def create_file(target: Path) -> tuple[Path, int]:
    """Create an empty file beside `target`, locked; return its path and its descriptor.

    :func:`forget` or :func:`discard` ends it.
    """
    return _create_locked(lambda: name_beside(target))


def create_folder(target: Path) -> tuple[Path, int]:
    """Create an empty folder beside `target`, locked; return its path and its lock's descriptor."""
    lock, descriptor = _create_locked(lambda: _lock_of(name_beside(target)))
    folder = lock.with_name(lock.name.removesuffix(_LOCK_SUFFIX))
    try:
        with _completing:
            _own[folder] = None
            folder.mkdir()
    except BaseException:
        os.close(descriptor)
        discard(folder)
        raise
    return folder, descriptor


def _create_locked(new_name: Callable[[], Path]) -> tuple[Path, int]:
    while True:
        path = new_name()
        # Creation and registration are one step for :func:`discard_all`.
        with _completing:
            descriptor = os.open(path, _NEW, 0o666)
            _own[path] = None
        # Another process may have removed it as abandoned before it was locked.
        if _lock(descriptor) is not False and _leads_to(path, descriptor):
            return path, descriptor
        os.close(descriptor)
        discard(path)


def forget(path: Path) -> None:
    """Release a file that has its final name; of a folder, remove the lock."""
    _own.pop(path, None)
    if path.with_name(path.name + _LOCK_SUFFIX) in _own:
        discard(_lock_of(path))


def discard(path: Path) -> None:
    """Remove an unfinished file, or a folder with its lock; ignore a missing one."""
    _remove(path)
    forget(path)


@contextmanager
def completing() -> Iterator[None]:
    """Keep :func:`discard_all` from running between the steps of a block: all are taken or none."""
    with _completing:
        yield


def discard_all() -> None:
    """Remove all that this process has not finished; it finishes nothing more.

    For a process that is about to end. It waits for steps that belong together, see
    :func:`completing`.
    """
    _completing.acquire()
    for path in [*_own]:
        _remove(path)


def abandoned(folder: Path, prefix: str = PREFIX) -> Iterator[Path]:
    """List files left by killed processes of this user, each locked until the next is taken."""
    for path in sorted(folder.glob(f"{prefix}{_HOST}-*")):
        with _left_alone(path) as is_left:
            if is_left:
                yield path


def remove_abandoned(folder: Path) -> int:
    """Remove unfinished files that killed processes left in a folder; return their number."""
    count = 0
    for path in abandoned(folder):
        _remove(path)
        count += not path.name.endswith(_LOCK_SUFFIX)
    return count


@contextmanager
def _left_alone(path: Path) -> Iterator[bool]:
    """Tell if the owner of `path` is gone; keep its lock meanwhile."""
    with contextlib.ExitStack() as opened:
        yield _is_own(path) and _take_over(path, opened)


def _is_own(path: Path) -> bool:
    try:
        return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another process was faster
        return False


def _take_over(path: Path, opened: contextlib.ExitStack) -> bool:
    is_file = path.is_file() and not path.is_symlink()
    try:
        descriptor = os.open(path if is_file else _lock_of(path), _EXISTING)
    except FileNotFoundError:
        # A folder's owner takes the lock before it makes the folder, and removes it afterwards.
        return not is_file
    except OSError:
        return False
    opened.callback(os.close, descriptor)
    return _lock(descriptor) is True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{PREFIX}{_HOST}-{token_of(folder)}{_LOCK_SUFFIX}")


def _lock(descriptor: int) -> bool | None:
    """Try the lock: True if it is held here now, None if the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD_BY_OTHERS else None
    return True


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if not path.is_dir() or path.is_symlink():
            path.unlink()
    for _ in range(_TRIES):
        if path.is_symlink() or not path.is_dir():
            return
        # Another thread may be adding to it.
        shutil.rmtree(path, ignore_errors=True)
