"""Cache of built engines, for this user on this machine.

An engine is native code, tied to the device, the driver and the version of its builder. So it is
kept under a key of everything it depends on, in a folder that only its user can write, with a keyed
hash; see :mod:`segmaformer.runtime.system.private_folder` and
:mod:`segmaformer.runtime.engines.sealed_store`. An engine that does not match is an error that
states the difference: the nearest engine is never run instead.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmaformer.runtime.engines.sealed_store import SealedRecord, SealedStore
from segmaformer.runtime.errors import BackendError, EngineError, PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.typed_json import build
from segmaformer.runtime.system.private_folder import PrivateFolder

FOLDER_VARIABLE = "SGMF_CACHE"
ENGINE_SUFFIX = ".engine"

_NAMES = {
    "builder_version": "the builder's version",
    "compute_capability": "the compute capability",
    "cuda": "CUDA",
    "device": "the device",
    "driver": "the driver",
    "package_sha256": "the package",
    "plugin_sha256": "the plugin library",
    "target": "the target",
    "variant_sha256": "the network",
}


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes
    ----------
    package_sha256
        SHA-256 of the package's manifest, which lists that of every other file.
    variant, variant_sha256
        Name of the variant, and SHA-256 of its file.
    builder, builder_version
        ``tensorrt`` or ``tensorrt-rtx``, and its version.
    segmaformer
        Version that prepared the network for the builder.
    plugin_sha256
        SHA-256 of the plugin library; None if the engine needs none.
    cuda, driver, device, compute_capability
        Machine that the engine was built on and runs on; None for an engine built ahead of time for
        `target`.
    target
        Target such as ``sm86``; None for this very device.
    batch
        Smallest, best and largest number of tiles at once.
    """

    package_sha256: str
    variant: str
    variant_sha256: str
    builder: str
    builder_version: str
    segmaformer: str
    plugin_sha256: str | None = None
    cuda: str | None = None
    driver: str | None = None
    device: str | None = None
    compute_capability: str | None = None
    target: str | None = None
    batch: tuple[int, int, int] = (1, 1, 1)

    @property
    def digest(self) -> str:
        """Return the SHA-256 over canonical JSON of all fields, in hexadecimal."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def for_batch(self, batch: int) -> EngineKey:
        """Return the key of an engine that takes 1 to `batch` tiles and is best at `batch`."""
        return dataclasses.replace(self, batch=(1, batch, batch))

    def differences(self, other: EngineKey) -> list[str]:
        """Describe each field in which `other` differs, except the batch."""
        return [
            f"{_NAMES.get(field.name, field.name)} was {theirs or 'none'}, here it is "
            f"{ours or 'none'}"
            for field in dataclasses.fields(self)
            if field.name != "batch"
            and (ours := getattr(self, field.name)) != (theirs := getattr(other, field.name))
        ]


def package_key(package: Package, variant: str) -> dict[str, Any]:
    """Return the fields of a key that come from a package."""
    record = package.manifest.files[package.manifest.variants[variant].file]
    return {
        "package_sha256": package.manifest_sha256,
        "variant": variant,
        "variant_sha256": record.sha256,
    }


@dataclass(frozen=True)
class Engine:
    """An engine that was checked, or built by this process.

    Attributes
    ----------
    content
        Serialised engine; the very bytes that were checked.
    key
        Key of the engine, with the batch it was built for.
    facts
        Other facts noted when it was built.
    """

    content: bytes
    key: EngineKey
    facts: dict[str, Any]

    @property
    def identity(self) -> str:
        """SHA-256 over key and content: two builds of one key may differ."""
        return hashlib.sha256(self.key.digest.encode() + self.content).hexdigest()


def cache_folder() -> Path:
    """Return ``$SGMF_CACHE``, or ``~/.cache/segmaformer/engines``."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "segmaformer" / "engines"


class EngineCache:
    """Engines of one user.

    Parameters
    ----------
    folder
        Folder of the cache, created if missing; None uses :func:`cache_folder`.

    Raises
    ------
    EngineError
        Others can write the folder.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = PrivateFolder.open(folder or cache_folder())
        self._store = SealedStore(self._folder)

    @property
    def path(self) -> Path:
        """Path of the folder, with links resolved."""
        return self._folder.path

    def store(self, key: EngineKey, content: bytes, facts: dict[str, Any] | None = None) -> Path:
        """Keep an engine, in place of an earlier one of the same key; return its path."""
        built = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
        notes = {"key": dataclasses.asdict(key), "built": built, **(facts or {})}
        return self._store.put(f"{key.digest}{ENGINE_SUFFIX}", content, notes)

    def load(self, wanted: EngineKey, *, remedy: str) -> Engine:
        """Return the engine for `wanted`, whatever its batch; the latest if there are several.

        Parameters
        ----------
        wanted
            Key of the network and this machine.
        remedy
            Advice for the error if there is none.

        Raises
        ------
        BackendError
            There is none. If there is one for another device, driver or version, the message states
            the difference.
        EngineError
            The engine was altered, cut short, made elsewhere, or others can write it.
        """
        complaints: list[EngineError] = []
        known: list[tuple[SealedRecord, EngineKey]] = []
        for name in self._store.names(ENGINE_SUFFIX):
            try:
                record = self._store.record(name)
                known.append((record, _key_of(record)))
            except EngineError as error:
                complaints.append(error)
        fitting = [(record, key) for record, key in known if not wanted.differences(key)]
        if fitting:
            record, key = max(fitting, key=lambda pair: str(pair[0].facts["built"]))
            return Engine(self._store.read(record), key, record.facts)
        if complaints:
            raise complaints[0]
        why = _why_none(wanted, [key for _, key in known])
        raise BackendError(f"{why} in {self.path}; {remedy}")

    def remember(self, name: str, content: bytes, facts: dict[str, Any] | None = None) -> None:
        """Keep other sealed content, such as a timing cache."""
        self._store.put(name, content, facts or {})

    def recall(self, name: str) -> tuple[bytes, dict[str, Any]] | None:
        """Return content and facts kept by :meth:`remember`; None if there are none.

        Raises
        ------
        EngineError
            As for :meth:`load`.
        """
        try:
            record = self._store.record(name)
        except FileNotFoundError:
            return None
        return self._store.read(record), record.facts


def _key_of(record: SealedRecord) -> EngineKey:
    try:
        key = build(EngineKey, record.facts.get("key", {}), record.name, ignore_unknown=False)
    except PackageError as error:
        raise EngineError(
            f"the record of {record.name} is of another segmaformer: {error}. Remove the engine "
            "and build again"
        ) from None
    if f"{key.digest}{ENGINE_SUFFIX}" != record.name:
        raise EngineError(f"{record.name} does not have the name of its key; build it again")
    return key


def _why_none(wanted: EngineKey, known: list[EngineKey]) -> str:
    what = f"no {wanted.builder} engine of variant {wanted.variant} for this package"
    others = list(_of_this_network(wanted, known))
    if not others:
        return f"there is {what}"
    differences = min((wanted.differences(key) for key in others), key=len)
    return f"there is {what} and this machine ({'; '.join(differences)})"


def _of_this_network(wanted: EngineKey, known: list[EngineKey]) -> Iterator[EngineKey]:
    for key in known:
        if (key.builder, key.variant_sha256) == (wanted.builder, wanted.variant_sha256):
            yield key
