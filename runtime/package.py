"""Opening packages: every byte is checked before it is believed."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.manifest import Manifest, parse_manifest

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Package:
    """A checked package directory."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Package:
        """Open `path` and check the size and SHA-256 of every file in the manifest.

        Raises
        ------
        FileNotFoundError
            There is no such directory.
        PackageError
            It is no package, or not the one that was exported.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no package at {path}")
        if not (path / MANIFEST_FILE).is_file():
            raise PackageError(f"{path} is no package: it has no {MANIFEST_FILE}")
        if (path / MANIFEST_FILE).stat().st_size > MAX_MANIFEST_BYTES:
            raise PackageError(f"{path / MANIFEST_FILE} is larger than 16 MiB")
        package = cls(path, parse_manifest((path / MANIFEST_FILE).read_bytes()))
        for name in package.manifest.files:
            package.read(name)
        return package

    def read(self, name: str) -> bytes:
        """Bytes of a listed file, checked as they are read.

        The bytes that were checked are the ones returned, so a file that is exchanged
        after opening is never used.

        Raises
        ------
        PackageError
            The file is not listed, missing, a link, outside the package or altered.
        """
        record = self.manifest.files.get(name)
        if record is None:
            raise PackageError(f"{name} is not listed in the manifest of {self.path}")
        path = self._inside(name)
        try:
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        except OSError as error:
            raise PackageError(f"{path} is listed in the manifest but cannot be read: {error}") from None
        if not stat.S_ISREG(info.st_mode):
            raise PackageError(f"{path} is not a regular file; packages hold no links")
        if len(content) != record.size:
            raise PackageError(
                f"{path} has {len(content)} bytes, its manifest says {record.size}; "
                "copy or export the package again"
            )
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise PackageError(
                f"{path} does not have the SHA-256 that its manifest states; "
                "it was damaged or altered: copy or export the package again"
            )
        return content

    def _inside(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or not parts:
            raise PackageError(f"the manifest names {name!r}, a path that leaves the package")
        path = self.path.joinpath(*parts)
        if not path.parent.resolve().is_relative_to(self.path.resolve()):
            raise PackageError(f"the manifest names {name!r}, which leads out of the package by a link")
        return path
