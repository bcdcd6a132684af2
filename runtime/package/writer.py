"""Writer of packages: complete and checked, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import FileRecord, Manifest
from segmaformer.runtime.package.reader import MANIFEST_FILE, read_manifest
from segmaformer.runtime.package.seal import seal
from segmaformer.runtime.package.signatures import SIGNATURE_FILE
from segmaformer.runtime.system.atomic import NO_ROOM, named_where_full
from segmaformer.runtime.system.unfinished import (
    abandoned,
    completing,
    create_folder,
    discard,
    forget,
    name_beside,
    remove_abandoned,
    token_of,
)

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def write_files(
    folder: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    kept: Mapping[str, FileRecord] | None = None,
) -> Manifest:
    """Write `files` and the manifest that lists them into `folder`.

    Parameters
    ----------
    folder
        Of the package.
    manifest
        What it says of `files` is replaced.
    files
        Contents by name.
    kept
        Files that were written there before and are listed first.

    Returns
    -------
    Manifest
        The manifest with size and SHA-256 of every file.
    """
    records = dict(kept or {})
    for name, content in files.items():
        _write(folder / name, content)
        records[name] = FileRecord(hashlib.sha256(content).hexdigest(), len(content))
    complete = dataclasses.replace(manifest, files=records)
    _write(folder / MANIFEST_FILE, seal(complete.to_json()))
    return complete


def _write(path: Path, content: bytes) -> None:
    """Write a file, replacing an earlier one; a link there is replaced, not followed."""
    path.unlink(missing_ok=True)
    with open(os.open(path, _NEW_FILE, 0o666), "wb") as stream:
        stream.write(content)


@contextmanager
def staged_package(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Create a folder beside `target` that replaces it when the block ends without an error.

    If the block fails, the folder is removed and `target` stays as it was. Unfinished folders of
    killed processes beside `target` are removed first, and a package that such a process had moved
    aside and not replaced is put back.

    Parameters
    ----------
    target
        Path of the package.
    overwrite
        Whether an existing package may be replaced.

    Raises
    ------
    FileNotFoundError
        The folder of `target` does not exist.
    FileExistsError
        `target` exists and may not be replaced, or holds other files than a package's.
    PermissionError
        Nothing can be written beside `target`.
    OSError
        There is no room for the package.
    """
    finish_replacing(target)
    _check_target(target, overwrite=overwrite)
    with named_where_full(target):
        staging, lock = _folder_beside(target)
    try:
        with named_where_full(target):
            yield staging
        _check_target(target, overwrite=overwrite)
        with completing():
            _put_in_place(staging, target)
            forget(staging)
    finally:
        discard(staging)
        os.close(lock)


def finish_replacing(target: Path) -> None:
    """Remove unfinished folders of killed processes beside `target`, and put a moved one back.

    For callers that read a package before they replace it by :func:`staged_package`.
    """
    remove_abandoned(target.parent)
    for aside in abandoned(target.parent, _aside_prefix(target)):
        if target.exists() or target.is_symlink():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)


def _check_target(target: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}; create it first")
    if _is_package(target.parent):
        raise FileExistsError(
            f"{target} would lie in the package {target.parent}; give another name with -o"
        )
    if not target.exists() and not target.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(f"{target} exists; give --overwrite, or another name with -o")
    obstacle = _what_else(target)
    if obstacle:
        raise FileExistsError(
            f"{target} is not replaced, because {obstacle}; remove it yourself, or give another "
            "name with -o"
        )


def _is_package(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except PackageError:
        return False
    return True


def _what_else(target: Path) -> str:
    """Describe content of `target` that is no package's; empty if nothing would be lost."""
    if target.is_symlink() or not target.is_dir():
        return "it is no folder"
    try:
        manifest = read_manifest(target)
    except PackageError as error:
        return f"it is no package that can be read ({error})"
    known = {MANIFEST_FILE, SIGNATURE_FILE, *(name.partition("/")[0] for name in manifest.files)}
    surplus = {path.name for path in target.iterdir()} - known
    return f"it also holds {min(surplus)}" if surplus else ""


def _folder_beside(target: Path) -> tuple[Path, int]:
    try:
        return create_folder(target)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise PermissionError(
            f"cannot write {target}: {error.strerror} in {target.parent.resolve()}; "
            "change its permissions or choose another folder with -o"
        ) from error


def _put_in_place(staging: Path, target: Path) -> None:
    """Rename `staging` to `target`; move an existing one aside first, and back on failure."""
    if not target.exists():
        staging.rename(target)
        return
    aside = name_beside(target, _aside_prefix(target), token_of(staging))
    try:
        target.rename(aside)
        staging.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside)


def _aside_prefix(target: Path) -> str:
    """Return the prefix of the name of a package being replaced, unique for `target`."""
    return f".sgmf.old-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"
