"""Writing packages: complete and checked, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segmaformer.runtime.manifest import FileRecord, Manifest
from segmaformer.runtime.package import MANIFEST_FILE


def write_files(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    """Write `files` and the manifest that lists them into `folder`.

    Returns
    -------
    Manifest
        With size and SHA-256 of every file.
    """
    records = {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        records[name] = FileRecord(hashlib.sha256(content).hexdigest(), len(content))
    complete = dataclasses.replace(manifest, files=records)
    (folder / MANIFEST_FILE).write_text(complete.to_json(), encoding="utf-8")
    return complete


@contextmanager
def staged_package(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block ends well.

    Parameters
    ----------
    target
        Where the package is to be.
    overwrite
        Whether an existing package may be replaced.

    Raises
    ------
    FileExistsError
        `target` exists and may not be replaced, or is no package.
    """
    _check_target(target, overwrite)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; create it first")
    if not target.exists():
        return
    if not (target / MANIFEST_FILE).is_file():
        raise FileExistsError(f"{target} exists and is no package; choose another name with -o")
    if not overwrite:
        raise FileExistsError(f"{target} exists; give --overwrite, or another name with -o")
