"""Writing a file so that its name never holds half of it.

What is not finished lies beside its target under a name that says which process of which
machine made it. If that process was killed, the next run in the folder removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".sgmf-"
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
    """
    target = Path(target)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; give the name of a file to write")
    temporary = target.with_name(
        f"{_PREFIX}{_HOST}-{os.getpid()}-{secrets.token_hex(6)}{''.join(target.suffixes)}"
    )
    _create(temporary, target)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(target: str | Path) -> None:
    """Refuse now what :func:`atomic_path` would refuse after the work; raises the same."""
    with contextlib.suppress(_Probe), atomic_path(target):
        raise _Probe


class _Probe(Exception):  # noqa: N818  (never seen outside)
    """Ends a trial before anything is written."""


def remove_abandoned(folder: Path) -> int:
    """Remove what killed processes of this machine left unfinished; returns how much."""
    removed = 0
    for path in folder.glob(f"{_PREFIX}{_HOST}-*"):
        pid = path.name.removeprefix(f"{_PREFIX}{_HOST}-").partition("-")[0]
        if pid.isdecimal() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


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
