"""Writing a file so that its name never holds half of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    temporary = target.with_name(f".{secrets.token_hex(8)}{''.join(target.suffixes)}")
    _create(temporary, target)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
