"""Files with a keyed hash, which shows that the user's own program wrote them.

Beside every file NAME lies ``NAME.json``: its size, SHA-256 and facts about it, and in the first
line the HMAC-SHA256 of all lines after it. The key, 32 random bytes, lies in the same folder,
readable by its user alone. The hash is checked before anything is parsed, and includes the name, so
that no file can be renamed to another's place.

The seal reveals damage, and files that came from elsewhere: from another user or machine, or from a
backup that someone else could write. It does not protect against someone who can read the key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmaformer.runtime.errors import EngineError, PackageError
from segmaformer.runtime.package.typed_json import build, load_json_object
from segmaformer.runtime.system.private_folder import PrivateFolder

KEY_FILE = "key"
KEY_BYTES = 32
MAX_RECORD_BYTES = 1024 * 1024

_OPENING = b"{\n"
_SEAL = re.compile(rb'\{\n  "hmac_sha256": "([0-9a-f]{64})",\n')
_PURPOSE = b"segmaformer sealed file 1\n"


@dataclass(frozen=True)
class SealedRecord:
    """Content of ``NAME.json``: size, SHA-256 and facts of the file NAME."""

    name: str
    size: int
    sha256: str
    facts: dict[str, Any]


class SealedStore:
    """Store of sealed files in a private folder.

    Parameters
    ----------
    folder
        Folder, checked before every use; see :class:`PrivateFolder`.
    """

    def __init__(self, folder: PrivateFolder):
        self.folder = folder

    def put(self, name: str, content: bytes, facts: dict[str, Any]) -> Path:
        """Write `content` and its record; return the path of the file.

        The record comes last: if writing ends between the two, reading refuses the pair.
        """
        self.folder.check()
        key = self._key(create=True)
        record = {
            "name": name,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "facts": facts,
        }
        text = json.dumps(record, indent=2, allow_nan=False).encode() + b"\n"
        seal = b'{\n  "hmac_sha256": "%s",\n' % _mac(key, text).encode()
        path = self.folder.write(name, content)
        self.folder.write(f"{name}.json", seal + text.removeprefix(_OPENING))
        return path

    def record(self, name: str) -> SealedRecord:
        """Return the checked record of a file.

        Raises
        ------
        FileNotFoundError
            There is no record of this name.
        EngineError
            The record lacks this user's seal, or belongs to another file.
        """
        self.folder.check()
        place = self.folder.path / f"{name}.json"
        content = self.folder.read(place.name, limit=MAX_RECORD_BYTES)
        found = _SEAL.match(content)
        text = b"" if found is None else _OPENING + content[found.end() :]
        if found is None or not hmac.compare_digest(_mac(self._key(), text), found[1].decode()):
            raise EngineError(
                f"{place} does not carry the keyed hash of {self.folder.path / KEY_FILE}: it was "
                "altered, or made elsewhere. Remove it and build again"
            )
        try:
            record = build(
                SealedRecord, load_json_object(text, place.name), place.name, ignore_unknown=False
            )
        except PackageError as error:
            raise EngineError(f"{error}; remove {place} and build again") from None
        if record.name != name:
            raise EngineError(
                f"{place} is the record of {record.name}, under another name. Remove it"
            )
        return record

    def read(self, record: SealedRecord) -> bytes:
        """Read the file that `record` describes; return the very bytes that were checked.

        Raises
        ------
        EngineError
            The file is missing, cut short, or differs from its record.
        """
        place = self.folder.path / record.name
        remedy = "it was damaged or exchanged. Remove it and build again"
        try:
            content = self.folder.read(record.name, limit=record.size)
        except FileNotFoundError:
            raise EngineError(f"{place} is missing beside its record; build again") from None
        if len(content) != record.size:
            found = f"more than {record.size}" if len(content) > record.size else len(content)
            raise EngineError(f"{place} has {found} bytes; expected {record.size}: {remedy}")
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise EngineError(f"{place} does not have the SHA-256 of its record: {remedy}")
        return content

    def names(self, suffix: str) -> list[str]:
        """List the names of sealed files that end in `suffix`, checked or not."""
        return [name.removesuffix(".json") for name in self.folder.names(f"{suffix}.json")]

    def _key(self, *, create: bool = False) -> bytes:
        place = self.folder.path / KEY_FILE
        if create and not place.exists():
            self.folder.write_new(KEY_FILE, secrets.token_bytes(KEY_BYTES))
        try:
            key = self.folder.read(KEY_FILE, limit=KEY_BYTES, secret=True)
        except FileNotFoundError:
            raise EngineError(
                f"{place} is missing, so nothing here can be checked; remove the engines in "
                f"{self.folder.path} and build them again"
            ) from None
        if len(key) != KEY_BYTES:
            raise EngineError(
                f"{place} is no key of {KEY_BYTES} bytes; remove it and the engines beside it, "
                "and build them again"
            )
        return key


def _mac(key: bytes, text: bytes) -> str:
    return hmac.new(key, _PURPOSE + text, hashlib.sha256).hexdigest()
