"""Signing of packages, with private keys in PKCS#8 files.

A private key never leaves :mod:`cryptography`, which the extra ``sign`` installs; OpenSSL reads and
writes the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import (
    MANIFEST_FILE,
    Package,
    read_manifest_file,
    read_signatures,
)
from segmaformer.runtime.package.seal import seal, unseal
from segmaformer.runtime.package.signatures import (
    PURPOSE,
    SIGNATURE_FILE,
    Signature,
    parse_signatures,
    signatures_to_json,
)
from segmaformer.runtime.package.typed_json import load_json_object
from segmaformer.runtime.system.atomic import atomic_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def write_new_key(path: Path, passphrase: bytes) -> str:
    """Write a new private key for the user alone, and return its public key in hexadecimal digits.

    Raises
    ------
    FileExistsError
        `path` exists.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)
    )
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(file, "wb") as stream:
        stream.write(content)
    return key.public_key().public_bytes_raw().hex()


def read_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Read a private key.

    Raises
    ------
    ValueError
        It is no private key of Ed25519, or the passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} cannot be read as a private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds another kind of key; expected Ed25519, as of sgmf keygen")
    return key


def is_encrypted(path: Path) -> bool:
    """Tell if a private key's file needs a passphrase."""
    return b"ENCRYPTED" in path.read_bytes()


def sign_package(path: Path, key: Ed25519PrivateKey, *, release: int | None = None) -> str:
    """Check a package as far as its own hashes go, then add a signature to it.

    Parameters
    ----------
    path
        Folder of the package.
    key
        Key to sign with; an earlier signature of it is replaced, those of others stay.
    release
        Number to write into the manifest first, which drops all earlier signatures.

    Returns
    -------
    str
        Id of the key.

    Raises
    ------
    PackageError
        The package was altered, or its ``manifest.sig`` is none.
    """
    if release is not None and release != Package.open(path, None).manifest.release:
        _number(path, release)
    manifest = read_manifest_file(path)
    if Package.open(path, None).manifest_sha256 != hashlib.sha256(manifest).hexdigest():
        raise PackageError(f"{path} changed while it was being signed; try again")
    public = key.public_key().public_bytes_raw()
    own = Signature(hashlib.sha256(public).hexdigest(), key.sign(PURPOSE + manifest).hex())
    earlier = read_signatures(path)
    others = () if earlier is None else parse_signatures(earlier)
    kept = tuple(each for each in others if each.key != own.key)
    with atomic_file(path / SIGNATURE_FILE) as stream:
        stream.write(signatures_to_json((*kept, own)))
    return own.key


def _number(path: Path, release: int) -> None:
    """Write the release into the manifest; fields of a newer format stay."""
    document = load_json_object(unseal((path / MANIFEST_FILE).read_bytes()), MANIFEST_FILE)
    document["release"] = release
    (path / SIGNATURE_FILE).unlink(missing_ok=True)
    with atomic_file(path / MANIFEST_FILE) as stream:
        stream.write(seal(json.dumps(document, indent=2, allow_nan=False) + "\n"))
