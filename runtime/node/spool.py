"""Queue of the node in a private folder, which survives the process at any moment.

``incoming`` holds images as they came, under counted names; ``jobs`` holds a folder for each series
that is complete. A step is one renaming, so a file or a job is in one place or the other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import SgmfError

try:
    import fcntl
except ImportError:  # no POSIX system, so no such locks
    fcntl = None  # type: ignore[assignment]

_REMEMBERED_SECONDS = 7 * 24 * 3600
_PART, _GONE, _IMAGE = ".part", ".gone", ".dcm"


class SpoolError(SgmfError):
    """The folder cannot be the node's queue."""


@dataclass(frozen=True)
class Job:
    """A series that waits for its segmentation, or has one that waits to be sent."""

    folder: Path

    @property
    def images(self) -> Path:
        """Folder of the series' files."""
        return self.folder / "images"

    @property
    def result(self) -> Path:
        """File of the segmentation; it exists when it is complete."""
        return self.folder / "result.dcm"

    @property
    def name(self) -> str:
        """Number of the job."""
        return self.folder.name


class Spool:
    """The queue, for one process at a time.

    Parameters
    ----------
    folder
        Folder of this user alone; it is created if it is missing.
    most_files, most_bytes
        Limits of the images in the folder.

    Raises
    ------
    SpoolError
        Others can read the folder, it is someone else's, or another node uses it.
    OSError
        It cannot be created.
    """

    def __init__(self, folder: Path, *, most_files: int, most_bytes: int):
        self._folder = folder
        self._incoming, self._jobs = folder / "incoming", folder / "jobs"
        self._failed, self._taken = folder / "failed", folder / "taken"
        self._most_files, self._most_bytes = most_files, most_bytes
        self._writing = threading.Lock()
        _make_private(folder)
        self._lock = _lock(folder / "lock")
        for each in (self._incoming, self._jobs, self._failed, self._taken):
            each.mkdir(exist_ok=True)
        self._finish_steps()
        held = [*folder.rglob(f"*{_IMAGE}")]
        self._files, self._bytes = len(held), sum(path.stat().st_size for path in held)
        numbers = [int(path.stem) for path in folder.rglob("*") if path.stem.isdigit()]
        self._next = max(numbers, default=0) + 1

    def close(self) -> None:
        """Let another node use the folder."""
        os.close(self._lock)

    def store(self, content: bytes) -> bool:
        """Keep an image as it came; False if the limits do not allow it.

        Raises
        ------
        OSError
            It cannot be written.
        """
        with self._writing:
            if self._files >= self._most_files or self._bytes + len(content) > self._most_bytes:
                return False
            self._files, self._bytes = self._files + 1, self._bytes + len(content)
            name = self._new_name()
        unfinished = self._incoming / f".{name}{_PART}"
        try:
            unfinished.write_bytes(content)
            unfinished.rename(self._incoming / f"{name}{_IMAGE}")
        except BaseException:
            unfinished.unlink(missing_ok=True)
            self._release(1, len(content))
            raise
        return True

    def arrivals(self) -> list[Path]:
        """List the images that belong to no job yet, in the order in which they came."""
        return sorted(self._incoming.glob(f"[0-9]*{_IMAGE}"))

    def drop(self, path: Path) -> None:
        """Remove an image that belongs to no job."""
        size = path.stat().st_size
        path.unlink()
        self._release(1, size)

    def make_job(self, images: Iterable[Path]) -> Job:
        """Move images that belong together to a job of their own."""
        name = self._new_name()
        unfinished = self._jobs / f".{name}{_PART}"
        (unfinished / "images").mkdir(parents=True)
        for path in images:
            path.rename(unfinished / "images" / path.name)
        return Job(unfinished.rename(self._jobs / name))

    def jobs(self) -> list[Job]:
        """List the jobs, the oldest first."""
        return [Job(path) for path in sorted(self._jobs.glob("[0-9]*"))]

    def finish(self, job: Job) -> None:
        """Remove a job with all of its files."""
        files = [*job.images.iterdir()]
        size = sum(path.stat().st_size for path in files)
        shutil.rmtree(job.folder.rename(self._jobs / f".{job.name}{_GONE}"))
        self._release(len(files), size)

    def set_aside(self, job: Job) -> None:
        """Keep a job that failed for a person to look at; it is not tried again.

        It counts towards the limits until it is removed and the node started again.
        """
        job.folder.rename(self._failed / job.name)

    def completes(self, series_uid: str, image_uids: Iterable[str]) -> bool:
        """Tell if images hold all that the last job of their series had.

        Otherwise they came late, and without those that were taken they are a part of the series.
        """
        try:
            taken = (self._taken / _digest(series_uid)).read_text().split()
        except FileNotFoundError:
            return True
        return {*taken} <= {*map(_digest, image_uids)}

    def note_taken(self, series_uid: str, image_uids: Iterable[str]) -> None:
        """Remember the images of a job by hashes of their UIDs, for a week."""
        path = self._taken / _digest(series_uid)
        unfinished = path.with_name(f".{path.name}{_PART}")
        unfinished.write_text("\n".join(map(_digest, image_uids)))
        unfinished.rename(path)

    def _new_name(self) -> str:
        name = f"{self._next:010}"
        self._next += 1
        return name

    def _release(self, files: int, size: int) -> None:
        with self._writing:
            self._files, self._bytes = self._files - files, self._bytes - size

    def _finish_steps(self) -> None:
        """Undo or finish what a killed process had begun."""
        for path in self._incoming.glob(f".*{_PART}"):
            path.unlink()
        for job in self._jobs.glob(f".*{_PART}"):
            for path in (job / "images").glob("*"):
                path.rename(self._incoming / path.name)
            shutil.rmtree(job)
        for job in self._jobs.glob(f".*{_GONE}"):
            shutil.rmtree(job)
        for path in self._taken.iterdir():
            if path.suffix == _PART or time.time() - path.stat().st_mtime > _REMEMBERED_SECONDS:
                path.unlink()


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise SpoolError(f"{folder} is a link; name the folder that it leads to")
    if hasattr(os, "geteuid") and info.st_uid != os.geteuid():
        raise SpoolError(f"{folder} belongs to another user; choose another place for the spool")
    if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SpoolError(f"others can reach {folder}, which will hold images: chmod 700 {folder}")


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SpoolError(f"another node uses the spool {path.parent}; give it its own") from None
    return descriptor
