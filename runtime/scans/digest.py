"""Facts by which a scan's files are recognised: names, number, size, time and SHA-256."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segmaformer.runtime.scans.dicom.folder import dicom_files, files_below
from segmaformer.runtime.system.digest import sha256_of, sha256_of_all, size_and_time


def file_facts(path: Path) -> dict[str, Any]:
    """Describe a file, or the DICOM files of a folder.

    Returns
    -------
    dict
        ``name`` and ``sha256``; of a file ``bytes`` and ``modified_ns``, of a folder the number of
        DICOM ``files`` and ``listing_sha256``, which changes with any file's name, size and time.
    """
    state = _state(path)
    if not path.is_dir():
        return {"name": path.name, **state, "sha256": sha256_of(path)}
    files = [*dicom_files(path)]
    return {"name": path.name, "files": len(files), **state, "sha256": sha256_of_all(files)}


def is_unchanged(path: Path, facts: Mapping[str, Any], *, rehash: bool = False) -> bool:
    """Tell if :func:`file_facts` of a file or folder are still these.

    Parameters
    ----------
    rehash
        Compare the SHA-256 even if name, size and time are the recorded ones.

    Raises
    ------
    OSError
        It cannot be read.
    KeyError
        `facts` are incomplete.
    """
    if facts["name"] != path.name:
        return False
    state = _state(path)
    if not rehash and all(facts.get(key) == value for key, value in state.items()):
        return True
    if facts.get("bytes") != state.get("bytes"):
        return False
    digest: str = facts["sha256"]
    return sha256_of_scan(path) == digest


def sha256_of_scan(path: Path) -> str:
    """Compute the SHA-256 of a scan's file, or one over all DICOM files of a folder."""
    return sha256_of_all(dicom_files(path)) if path.is_dir() else sha256_of(path)


def _state(path: Path) -> dict[str, Any]:
    """Return facts that are quick to find and change when a file is written to."""
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        return size_and_time(found)
    digest = hashlib.sha256()
    for line in _listing(path):
        digest.update(os.fsencode(line))
    return {"listing_sha256": digest.hexdigest()}


def _listing(folder: Path) -> Iterator[str]:
    for path in files_below(folder):
        found = path.lstat()
        yield f"{path.relative_to(folder)}\0{found.st_size}\0{found.st_mtime_ns}\n"
