"""Reader of packages that checks every byte before use."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.bindings.self_contained import reason_to_refuse
from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import PREVIOUS_STAGE, Manifest, parse_manifest
from segmaformer.runtime.package.seal import unseal
from segmaformer.runtime.package.signatures import (
    KEY_RINGS,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_FILE,
    Signer,
    Trust,
    find_signer,
)
from segmaformer.runtime.system.digest import sha256_of

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024

_REMEDY = "it was damaged or altered: copy or export the package again"


@dataclass(frozen=True)
class Package:
    """Checked package directory.

    Attributes
    ----------
    signer
        Trusted key that signed it; None where no key is trusted.
    """

    path: Path
    manifest: Manifest
    signer: Signer | None = None

    @classmethod
    def open(cls, path: str | Path, trust: Trust | None = KEY_RINGS) -> Package:
        """Open `path`; check its signature, and size and SHA-256 of every file in the manifest.

        Once any key is trusted, a package must have a signature of such a key.

        Parameters
        ----------
        path
            Folder of the package.
        trust
            What is asked of the signature; None for a package that the caller just made, whose
            signature is not checked.

        Raises
        ------
        FileNotFoundError
            There is no such directory.
        PackageError
            The directory is no package, was altered since the export, or lacks a signature of a
            key that is trusted.
        """
        content = read_manifest_file(Path(path))
        signer = None if trust is None else _signer(Path(path), content, trust)
        package = cls(Path(path), _parsed(Path(path), content), signer)
        for name in package.manifest.files:
            package.read(name)
        package.previous_stage()
        return package

    @property
    def manifest_sha256(self) -> str:
        """SHA-256 of the manifest's file, which lists that of every other file."""
        return sha256_of(self.path / MANIFEST_FILE)

    def previous_stage(self) -> Package | None:
        """Return the package of a cascade's first network; None if this is no cascade.

        Raises
        ------
        PackageError
            It is no package, or does not suit this one.
        """
        if self.manifest.previous_stage is None:
            return None
        path = self.path / PREVIOUS_STAGE
        content = self.read(f"{PREVIOUS_STAGE}/{MANIFEST_FILE}")
        package = Package(path, _parsed(path, content))
        complaint = _stage_complaint(package.manifest, self.manifest)
        if complaint:
            raise PackageError(f"{path} is no first stage of {self.path}: {complaint}")
        return package

    def network(self, variant: str) -> bytes:
        """Read the ONNX file of a variant of the package.

        Raises
        ------
        PackageError
            As for :meth:`read`; or a tensor's data lies outside the file.
        """
        file = self.manifest.variants[variant].file
        content = self.read(file)
        reason = reason_to_refuse(content)
        if reason is not None:
            raise PackageError(
                f"{self.path / file} {reason}; such a package is not of sgmf export: do not run it"
            )
        return content

    def read(self, name: str) -> bytes:
        """Read a listed file and check its bytes.

        The bytes that were checked are the ones returned, so a file that is exchanged after opening
        is never used.

        Raises
        ------
        PackageError
            The file is not listed, missing, reached through a link, or altered.
        """
        record = self.manifest.files.get(name)
        if record is None:
            raise PackageError(f"{name} is not listed in the manifest of {self.path}")
        content = _read_plain_file(self.path, name, limit=record.size)
        if len(content) != record.size:
            raise PackageError(
                f"{self.path / name} does not have the {record.size} bytes that its manifest "
                f"states; {_REMEDY}"
            )
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise PackageError(
                f"{self.path / name} does not have the SHA-256 that its manifest states; {_REMEDY}"
            )
        return content


def read_manifest(path: str | Path) -> Manifest:
    """Read the manifest of the package at `path`, but none of its other files.

    Raises
    ------
    FileNotFoundError
        There is no such directory.
    PackageError
        There is no manifest, or it is altered, of another version or contradictory.
    """
    return _parsed(Path(path), read_manifest_file(Path(path)))


def read_signatures(path: Path) -> bytes | None:
    """Read the ``manifest.sig`` of the package at `path`; None if it has none.

    Raises
    ------
    PackageError
        It is a link or no regular file.
    """
    if not os.path.lexists(path / SIGNATURE_FILE):
        return None
    return _read_plain_file(path, SIGNATURE_FILE, limit=MAX_SIGNATURE_BYTES)


def _signer(path: Path, manifest: bytes, trust: Trust) -> Signer | None:
    try:
        return find_signer(manifest, read_signatures(path), trust)
    except PackageError as error:
        raise PackageError(f"{path}: {error}") from None


def read_manifest_file(path: Path) -> bytes:
    """Read the bytes of the manifest of the package at `path`, with the errors of its reading."""
    if not path.exists():
        raise FileNotFoundError(f"there is no package at {path}")
    if not (path / MANIFEST_FILE).exists():
        raise PackageError(f"{path} is no package: it has no {MANIFEST_FILE}")
    content = _read_plain_file(path, MANIFEST_FILE, limit=MAX_MANIFEST_BYTES)
    if len(content) > MAX_MANIFEST_BYTES:
        raise PackageError(f"{path / MANIFEST_FILE} is larger than 16 MiB, no manifest is")
    return content


def _parsed(path: Path, content: bytes) -> Manifest:
    try:
        return parse_manifest(unseal(content))
    except PackageError as error:
        raise PackageError(f"{path}: {error}") from None


def _stage_complaint(first: Manifest, second: Manifest) -> str:
    """Say why two networks are no cascade; empty if they are."""
    if first.previous_stage is not None:
        return "it is a cascade itself; expected one network"
    if first.preprocessing.channels != second.preprocessing.channels:
        return f"it takes the channels {', '.join(first.preprocessing.channels)}"
    if first.output != second.output:
        return "it has other labels"
    missing = {f"{PREVIOUS_STAGE}/{name}" for name in first.files} - second.files.keys()
    return f"the manifest does not list {min(missing)}" if missing else ""


def _read_plain_file(package: Path, name: str, *, limit: int) -> bytes:
    """Read a regular file of `package` that no link leads to; stop just after `limit` bytes."""
    path = package / name
    try:
        if os.path.realpath(path) != os.path.join(os.path.realpath(package), *name.split("/")):
            raise PackageError(f"{path} leads to another place; packages hold no links")
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            raise PackageError(f"{path} is not a regular file")
        with path.open("rb") as stream:
            return stream.read(min(limit, info.st_size) + 1)
    except (OSError, ValueError) as error:
        raise PackageError(f"{path} belongs to the package but cannot be read: {error}") from None
