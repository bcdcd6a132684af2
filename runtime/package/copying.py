"""Copies of packages."""

from __future__ import annotations

from pathlib import Path

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import (
    MANIFEST_FILE,
    Package,
    read_manifest_file,
    read_signatures,
)
from segmaformer.runtime.package.signatures import SIGNATURE_FILE


def copy_package(package: Package, manifest_sha256: str, folder: Path) -> None:
    """Copy a package's signatures and the files that its manifest lists, and check the copy.

    Parameters
    ----------
    manifest_sha256
        SHA-256 of the manifest that the copy must have.
    folder
        Empty folder to copy into.

    Raises
    ------
    PackageError
        The package changed meanwhile.
    """
    (folder / MANIFEST_FILE).write_bytes(read_manifest_file(package.path))
    signatures = read_signatures(package.path)
    if signatures is not None:
        (folder / SIGNATURE_FILE).write_bytes(signatures)
    for name in package.manifest.files:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(package.read(name))
    if Package.open(folder).manifest_sha256 != manifest_sha256:
        raise PackageError(f"{package.path} changed while it was copied; try again")
