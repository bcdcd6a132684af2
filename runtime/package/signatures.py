"""Signatures of a package: the list in its ``manifest.sig``, and who is trusted to sign.

A signature is Ed25519's, over :data:`PURPOSE` and the bytes of ``manifest.json``, which lists the
hash of every other file. The checking is native, see ``runtime/native/package/signature``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.bindings.signature import check_signature
from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.typed_json import build_value, load_json

SIGNATURE_FILE = "manifest.sig"
MAX_SIGNATURE_BYTES = 64 * 1024
PURPOSE = b"segmaformer package 1\n"


@dataclass(frozen=True)
class Trust:
    """Demands on a package's signature, besides those of the key rings.

    Attributes
    ----------
    keys
        File of a trusted key, or folder of such files; None uses the environment variable
        SGMF_TRUST, if it is set.
    required
        Whether to refuse every package where no key is trusted; the environment variable
        SGMF_REQUIRE_SIGNATURE=1 asks the same.
    """

    keys: Path | None = None
    required: bool = False


KEY_RINGS = Trust()
"""Trust in the keys of the key rings and of the environment alone."""


@dataclass(frozen=True)
class Signer:
    """Trusted key that signed a package: the SHA-256 of the public key, and its name."""

    key: str
    name: str


@dataclass(frozen=True)
class Signature:
    """Entry of ``manifest.sig``.

    Attributes
    ----------
    key
        SHA-256 of the public key.
    signature
        The 64 bytes in hexadecimal digits.
    """

    key: str
    signature: str


def find_signer(manifest: bytes, signatures: bytes | None, trust: Trust) -> Signer | None:
    """Return the trusted key that signed; None where no key is trusted and none required.

    Raises
    ------
    PackageError
        No trusted key signed these bytes of the manifest.
    """
    keys = None if trust.keys is None else os.fsencode(trust.keys)
    said = check_signature(manifest, signatures, keys, required=trust.required)
    return Signer(*said.split(" ", 1)) if said else None


def parse_signatures(content: bytes) -> tuple[Signature, ...]:
    """Read the content of ``manifest.sig``, without checking a signature.

    Raises
    ------
    PackageError
        It is no list of signatures.
    """
    found: tuple[Signature, ...] = build_value(
        tuple[Signature, ...], load_json(content, SIGNATURE_FILE), SIGNATURE_FILE
    )
    if len({each.key for each in found}) < len(found):
        raise PackageError(f"{SIGNATURE_FILE} has two signatures of one key")
    return found


def signatures_to_json(signatures: tuple[Signature, ...]) -> bytes:
    """Return the content of ``manifest.sig``."""
    return json.dumps([dataclasses.asdict(each) for each in signatures], indent=2).encode() + b"\n"
