"""Signing of packages for tests: Ed25519 as RFC 8032 writes it, in integers of Python."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmaformer.runtime.package.signatures import PURPOSE, SIGNATURE_FILE

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def _sum(p: Point, q: Point) -> Point:
    product = D * p[0] * q[0] * p[1] * q[1]
    x = (p[0] * q[1] + p[1] * q[0]) * pow(1 + product, -1, P)
    y = (p[1] * q[1] + p[0] * q[0]) * pow(1 - product, -1, P)
    return x % P, y % P


@functools.cache
def _times(factor: int, point: Point) -> Point:
    result = (0, 1)
    while factor:
        if factor & 1:
            result = _sum(result, point)
        point, factor = _sum(point, point), factor >> 1
    return result


def _even_x(y: int) -> int:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x % 2 == 0 else P - x


_BASE_Y = 4 * pow(5, -1, P) % P
BASE = (_even_x(_BASE_Y), _BASE_Y)


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _scalar(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


@dataclass(frozen=True)
class SigningKey:
    """Private key of a name, from which the key is derived."""

    name: str

    @property
    def _secret(self) -> tuple[int, bytes]:
        digest = hashlib.sha512(hashlib.sha256(self.name.encode()).digest()).digest()
        number = int.from_bytes(digest[:32], "little")
        return number & ((1 << 254) - 8) | 1 << 254, digest[32:]

    @property
    def public(self) -> bytes:
        return encoded(_times(self._secret[0], BASE))

    @property
    def id(self) -> str:
        return hashlib.sha256(self.public).hexdigest()

    def sign(self, message: bytes) -> bytes:
        secret, prefix = self._secret
        nonce = _scalar(prefix, message) % ORDER
        commitment = encoded(_times(nonce, BASE))
        response = nonce + _scalar(commitment, self.public, message) * secret
        return commitment + (response % ORDER).to_bytes(32, "little")

    def entry(self, manifest: bytes) -> dict[str, str]:
        """Return the entry of ``manifest.sig`` for the bytes of a manifest."""
        return {"key": self.id, "signature": self.sign(PURPOSE + manifest).hex()}

    def trusted(self, **facts: Any) -> dict[str, Any]:
        """Return the content of the key's file."""
        return {"name": self.name, "public_key": self.public.hex(), **facts}

    def trust(self, folder: Path, **facts: Any) -> Path:
        """Write the key's file into a key ring."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{self.name}.pub"
        path.write_text(json.dumps(self.trusted(**facts)))
        path.chmod(0o600)
        return path


def sign_package(package: Path, *keys: SigningKey) -> None:
    """Write the ``manifest.sig`` of a package."""
    manifest = (package / "manifest.json").read_bytes()
    entries = [key.entry(manifest) for key in keys]
    (package / SIGNATURE_FILE).write_text(json.dumps(entries))
