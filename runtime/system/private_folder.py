"""Folder that only its user can write, and safe reading of its files.

Checking a file that decides what runs, such as an engine or a network, is only worthwhile if
nobody else can exchange it. So every folder on the way must belong to the user or to root and be
writable by no one else, and a file is opened once, without following links: the bytes that were
checked are the ones returned. A folder like ``/tmp``, in which others may create files but neither
rename nor remove those of other users (the sticky bit), is accepted on the way, never as the folder
itself.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import EngineError, SgmfError
from segmaformer.runtime.system.atomic import atomic_file

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NO_SURPRISES = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | os.O_RDONLY


@dataclass(frozen=True)
class PrivateFolder:
    """Checked folder; make one by :meth:`open`.

    Attributes
    ----------
    path
        Absolute path, with every link on the way resolved.
    variable
        Environment variable that names another folder, for messages.
    refusal
        Error for a folder or a file that cannot be trusted.
    """

    path: Path
    variable: str = "SGMF_CACHE"
    refusal: type[SgmfError] = EngineError

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        variable: str = variable,
        refusal: type[SgmfError] = refusal,
    ) -> PrivateFolder:
        """Check `path`, after creating its missing part for the user alone.

        Raises
        ------
        refusal
            The folder or one above it belongs to someone else or can be written by others, it is a
            link or no folder, or this system has no owners of files.
        OSError
            The folder cannot be created.
        """
        if not hasattr(os, "geteuid"):
            raise refusal(
                "this system does not tell who owns a file, so nothing can be kept safely; "
                "expected a POSIX system"
            )
        path = Path(path).expanduser().absolute()
        if path.is_symlink():
            raise refusal(f"{path} is a link; name the folder that it leads to")
        _create(path, variable)
        folder = cls(path.resolve(), variable, refusal)
        folder.check()
        return folder

    def check(self) -> None:
        """Refuse the folder if others own or can write it, or one above it; see :meth:`open`."""
        for above in reversed(self.path.parents):
            self._check_owner(above, above.lstat(), sticky=True)
        with self._opened():
            pass

    def read(self, name: str, *, limit: int, secret: bool = False) -> bytes:
        """Read a file, at most `limit` + 1 bytes of it; nobody else may read a secret.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        refusal
            The file is a link, no regular file, someone else's, or open to others.
        """
        place = self.path / name
        with self._opened() as folder:
            try:
                file = os.open(name, _NO_SURPRISES, dir_fd=folder)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise self.refusal(
                    f"{place} cannot be read: it is a link, or {error.strerror}; remove it"
                ) from None
            try:
                self._check_file(place, os.fstat(file), secret=secret)
                with open(file, "rb", closefd=False) as stream:
                    return stream.read(limit + 1)
            finally:
                os.close(file)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that only the user can read; it appears whole or not at all."""
        with atomic_file(self.path / name) as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(content)
        return self.path / name

    def write_new(self, name: str, content: bytes) -> None:
        """Write a file as :meth:`write` does, but leave an existing one as it is."""
        unfinished = self.path / f".{name}-{secrets.token_hex(6)}"
        try:
            file = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, self.path / name)
        finally:
            unfinished.unlink(missing_ok=True)

    def names(self, suffix: str) -> list[str]:
        """List the names of the files that end in `suffix`, sorted."""
        with self._opened() as folder:
            return sorted(name for name in os.listdir(folder) if name.endswith(suffix))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the folder; its descriptor stays valid whatever happens to its name."""
        try:
            folder = os.open(self.path, _NO_SURPRISES | os.O_DIRECTORY)
        except OSError as error:
            raise self.refusal(
                f"{self.path} cannot be opened as a folder: {error.strerror}; set "
                f"{self.variable} to a folder of your own"
            ) from None
        try:
            self._check_owner(self.path, os.fstat(folder))
            yield folder
        finally:
            os.close(folder)

    def _check_file(self, path: Path, info: os.stat_result, *, secret: bool) -> None:
        """Refuse a file that is not the user's own regular file."""
        if not stat.S_ISREG(info.st_mode):
            raise self.refusal(f"{path} is not a regular file; remove it")
        self._check_owner(path, info)
        if secret and info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise self.refusal(
                f"{path} can be read by others ({stat.filemode(info.st_mode)}), so it keeps no "
                "secret. Remove it and what lies beside it, and build again"
            )

    def _check_owner(self, path: Path, info: os.stat_result, *, sticky: bool = False) -> None:
        """Refuse a file or folder that belongs to others, or that others can write."""
        user = os.geteuid()
        if info.st_uid not in (0, user):
            raise self.refusal(
                f"{path} belongs to user {info.st_uid}; expected user {user} or root. Set "
                f"{self.variable} to a folder of your own"
            )
        if info.st_mode & OTHERS_WRITE and not (sticky and info.st_mode & stat.S_ISVTX):
            raise self.refusal(
                f"{path} can be written by others ({stat.filemode(info.st_mode)}); expected the "
                f"user alone. Make sure that it holds only what is yours, then run: "
                f"chmod go-w '{path}'"
            )


def _create(path: Path, variable: str) -> None:
    """Create a folder and the missing ones above it, for the user alone."""
    for folder in (*reversed(path.parents), path):
        if folder.is_dir():
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"cannot create {path}: {error.strerror} at {folder}; set {variable} to a "
                "folder of your own"
            ) from None
