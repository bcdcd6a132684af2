"""DICOM files of a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from segmaformer.runtime.scans.dicom.opening import open_file
from segmaformer.runtime.system.interruption import check


def files_below(path: Path) -> Iterator[Path]:
    """Return the files of a folder and those below, in order of their names; or the file itself.

    Links to nothing are among them, and links to folders are not.

    Raises
    ------
    OSError
        A folder cannot be read.
    """
    if not path.is_dir():
        yield path
        return
    for folder, below, names in os.walk(path, onerror=_raise):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and (file.is_file() or file.is_symlink()):
                yield file


def _raise(error: OSError) -> NoReturn:
    raise error


def dicom_files(folder: Path) -> Iterator[Path]:
    """Return the DICOM files of a folder and those below that can be read."""
    for path in files_below(folder):
        check()
        with contextlib.suppress(OSError):
            if open_file(path) is not None:
                yield path


def holds_dicom(folder: Path) -> bool:
    """Tell if a folder, or one below it, holds a DICOM file."""
    return next(dicom_files(folder), None) is not None
