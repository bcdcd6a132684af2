"""Seal of the manifest: a digest in its first line of all other lines.

The manifest lists the SHA-256 of every other file, but cannot list its own.
``grep -v manifest_sha256 manifest.json | sha256sum`` computes the same digest.
"""

from __future__ import annotations

import hashlib
import re

from segmaformer.runtime.errors import PackageError

_OPENING = b"{\n"
_SEAL = re.compile(rb'\{\n  "manifest_sha256": "([0-9a-f]{64})",\n')


def seal(text: str) -> bytes:
    """Return the file content of a manifest.

    Parameters
    ----------
    text
        Indented JSON, from :meth:`segmaformer.runtime.package.manifest.Manifest.to_json`.

    Returns
    -------
    bytes
        The text in UTF-8 with ``manifest_sha256``, the SHA-256 of all other lines, in front.
    """
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    return f'{{\n  "manifest_sha256": "{digest}",\n'.encode() + content.removeprefix(_OPENING)


def unseal(content: bytes) -> bytes:
    """Undo :func:`seal` after checking the digest.

    Raises
    ------
    PackageError
        There is no seal, or a byte differs from the sealed text.
    """
    found = _SEAL.match(content)
    if found is None:
        raise PackageError(
            "manifest.json does not begin with its manifest_sha256; it was damaged or altered, or "
            "the folder is no package: copy or export it again"
        )
    sealed = _OPENING + content[found.end() :]
    if hashlib.sha256(sealed).hexdigest().encode() != found[1]:
        raise PackageError(
            "manifest.json does not have the SHA-256 that its first line states; "
            "it was damaged or altered: copy or export the package again"
        )
    return sealed
