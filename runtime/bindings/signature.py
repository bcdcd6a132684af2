"""Check of who made a package: signatures, and the keys that a user trusts."""

from __future__ import annotations

from typing import Any

import numpy as np

from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.errors import PackageError

_ROOM = 4096


def check_signature(
    manifest: bytes, signatures: bytes | None, keys: bytes | None, *, required: bool
) -> str:
    """Check the bytes of ``manifest.json`` against the keys that the user trusts.

    Parameters
    ----------
    manifest, signatures
        Content of ``manifest.json`` and of ``manifest.sig``; None if there is no such file.
    keys
        Path of a key's file, or of a folder of them, besides the key rings; None uses SGMF_TRUST.
    required
        Whether to refuse every package where no key is trusted.

    Returns
    -------
    str
        Id and name of the key that signed, with a space between; empty where no key is trusted.

    Raises
    ------
    PackageError
        No trusted key signed these bytes, or a key's file cannot be used.
    """
    size = 0 if signatures is None else len(signatures)
    return _said("sgmf_check_signature", manifest, len(manifest), signatures, size, keys, required)


def check_trusted_key(content: bytes, place: str) -> str:
    """Check the content of a trusted key's file, and return the key's id.

    Raises
    ------
    PackageError
        It is no key; `place` is its name in the message.
    """
    return _said("sgmf_check_trusted_key", content, len(content), place.encode())


def has_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell if 64 bytes are the Ed25519 signature of a message by a public key of 32 bytes."""
    if len(key) != 32 or len(signature) != 64:
        return False
    return bool(op_library().sgmf_has_signed(key, message, len(message), signature))


def _said(function: str, *arguments: Any) -> str:
    """Call a function that says what it found, or why it refuses."""
    said = np.zeros(_ROOM, np.uint8)
    status = getattr(op_library(), function)(*arguments, said, len(said))
    if status < 0:
        raise MemoryError("there is not enough memory to check a signature")
    text = said.tobytes().partition(b"\0")[0].decode(errors="replace")
    if status:
        raise PackageError(text)
    return text
