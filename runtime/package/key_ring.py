"""Key rings: folders with the public keys whose signatures of packages a user trusts.

The system's ring is for its administrator, the user's own is written by ``sgmf trust``. Nobody but
the user and root may be able to write either, see :mod:`segmaformer.runtime.system.private_folder`.
The native check reads them by itself; this module is for showing and changing them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from segmaformer.runtime.bindings.signature import check_trusted_key
from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.typed_json import build, load_json_object
from segmaformer.runtime.system.private_folder import PrivateFolder

SYSTEM_RING = Path("/etc/segmaformer/trust.d")
KEY_SUFFIX = ".pub"
MAX_KEY_BYTES = 64 * 1024


@dataclass(frozen=True)
class TrustedKey:
    """Content of a trusted key's file.

    Attributes
    ----------
    name
        Name of the key, and of its file.
    public_key
        The 32 bytes of Ed25519 in hexadecimal digits.
    not_after
        Last day on which its signatures count, such as ``2028-12-31`` (UTC).
    revoked
        Whether no signature of it counts, wherever else the key is trusted.
    least_releases
        By the names of packages: the lowest release that may be opened.
    """

    name: str
    public_key: str
    not_after: str | None = None
    revoked: bool = False
    least_releases: dict[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """SHA-256 of the public key, after all fields are checked.

        Raises
        ------
        PackageError
            A field is wrong.
        """
        return check_trusted_key(self.to_json(), self.name)

    def to_json(self) -> bytes:
        """Return the content of the key's file."""
        return json.dumps(dataclasses.asdict(self), indent=2).encode() + b"\n"


def parse_trusted_key(content: bytes, place: str) -> TrustedKey:
    """Read the content of a key's file, which messages call `place`.

    Raises
    ------
    PackageError
        It is no key.
    """
    check_trusted_key(content, place)
    return build(TrustedKey, load_json_object(content, place), place, ignore_unknown=False)


def own_ring() -> Path:
    """Return ``segmaformer/trust.d`` in the user's XDG configuration folder.

    Raises
    ------
    FileNotFoundError
        The user has no home folder.
    """
    configuration = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(configuration):
        return Path(configuration) / "segmaformer" / "trust.d"
    try:
        return Path.home() / ".config" / "segmaformer" / "trust.d"
    except RuntimeError:
        raise FileNotFoundError(
            "this user has no home folder for keys; set XDG_CONFIG_HOME to a folder"
        ) from None


class KeyRing:
    """Key ring in a folder, which is created if missing.

    Raises
    ------
    PackageError
        Others can write the folder, or it is a link.
    """

    def __init__(self, path: Path):
        self._folder = PrivateFolder.open(path, variable="XDG_CONFIG_HOME", refusal=PackageError)

    @classmethod
    def existing(cls, path: Path) -> KeyRing | None:
        """Open a key ring, or return None if there is none yet."""
        return cls(path) if os.path.lexists(path) else None

    @property
    def path(self) -> Path:
        """Path of the folder, with links resolved."""
        return self._folder.path

    def trusted_keys(self) -> list[TrustedKey]:
        """Read all keys, sorted by the names of their files.

        Raises
        ------
        PackageError
            A file is no key, or others can write it.
        """
        return [
            parse_trusted_key(
                self._folder.read(name, limit=MAX_KEY_BYTES), os.fspath(self.path / name)
            )
            for name in self._folder.names(KEY_SUFFIX)
        ]

    def add(self, key: TrustedKey) -> Path:
        """Write a key, replacing what was known of the same key, and return its file.

        Raises
        ------
        FileExistsError
            Another key has that name.
        """
        for known in self.trusted_keys():
            if known.name == key.name and known.id != key.id:
                raise FileExistsError(
                    f"{self.path} holds another key {key.name}; run: sgmf trust remove {key.name}"
                )
        return self._folder.write(key.name + KEY_SUFFIX, key.to_json())

    def remove(self, name: str) -> None:
        """Remove the key of a name, whatever its file holds.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        known = [file.removesuffix(KEY_SUFFIX) for file in self._folder.names(KEY_SUFFIX)]
        if name not in known:
            raise FileNotFoundError(
                f"there is no key {name!r:.80} in {self.path}; it has {', '.join(known) or 'none'}"
            )
        (self.path / (name + KEY_SUFFIX)).unlink()
