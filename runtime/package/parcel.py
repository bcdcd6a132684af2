"""A package on its way to another machine."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import MANIFEST_FILE, Package, read_manifest_file
from segmaformer.runtime.package.signatures import Signer


@dataclass(frozen=True)
class Parcel:
    """Files of a package, as they were checked where it was opened.

    Attributes
    ----------
    contents
        Bytes of each file that the manifest lists, and of the manifest.
    signer
        Trusted key that had signed it there; None where no key was trusted.
    """

    contents: Mapping[str, bytes]
    signer: Signer | None

    @classmethod
    def pack(cls, package: Package) -> Parcel:
        """Read the files of a package, and check each."""
        contents = {name: package.read(name) for name in package.manifest.files}
        manifest = read_manifest_file(package.path)
        if hashlib.sha256(manifest).hexdigest() != package.manifest_sha256:
            raise PackageError(f"{package.path} was replaced during the run; start again")
        return cls({**contents, MANIFEST_FILE: manifest}, package.signer)

    def unpack(self, folder: Path) -> Package:
        """Write the files into an empty folder, and open the package there.

        Its signature was checked where it was packed, so it is not asked for again.

        Raises
        ------
        PackageError
            The files are not those of the manifest.
        """
        for name, content in self.contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return dataclasses.replace(Package.open(folder, trust=None), signer=self.signer)
