"""Packages with signatures of every kind, and whether Python and C may open them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.packages.samples import flip_byte
from support.packages.signing import ORDER, SigningKey, sign_package

from segmaformer.runtime.package.seal import seal, unseal

MAKER, SUCCESSOR, STRANGER = SigningKey("maker"), SigningKey("successor"), SigningKey("stranger")
PAST, FUTURE = "2020-12-31", "2999-12-31"


@dataclass
class Place:
    """Package, the user's key ring, and what a caller asks for."""

    package: Path
    ring: Path
    environment: dict[str, str] = field(default_factory=dict)
    keys: Path | None = None
    required: bool = False

    @property
    def manifest(self) -> Path:
        return self.package / "manifest.json"

    @property
    def signatures(self) -> Path:
        return self.package / "manifest.sig"

    def trust(self, key: SigningKey = MAKER, **facts: Any) -> Path:
        return key.trust(self.ring, **facts)

    def sign(self, *keys: SigningKey) -> None:
        sign_package(self.package, *(keys or (MAKER,)))

    def release(self, number: int) -> None:
        self.edit(lambda document: document.update(release=number))

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(unseal(self.manifest.read_bytes()))
        change(document)
        self.manifest.write_bytes(seal(json.dumps(document, indent=2) + "\n"))

    def entries(self, change: Callable[[list[dict[str, Any]]], object]) -> None:
        entries = json.loads(self.signatures.read_text())
        change(entries)
        self.signatures.write_text(json.dumps(entries))


Change = Callable[[Place], object]


@dataclass(frozen=True)
class Case:
    """Change of a place, and a part of the refusal; None where the package opens."""

    name: str
    change: Change
    refused: str | None
    signer: str | None = None


def trusted(change: Change = lambda place: None, **facts: Any) -> Change:
    """Trust the maker, let it sign, then change."""

    def apply(place: Place) -> None:
        place.trust(**facts)
        place.sign()
        change(place)

    return apply


def _released(number: int | None, **least: int) -> Change:
    def apply(place: Place) -> None:
        if number is not None:
            place.release(number)
        place.trust(least_releases=least)
        place.sign()

    return apply


def _set(name: str, value: Any) -> Change:
    return trusted(lambda place: place.entries(lambda entries: entries[0].update({name: value})))


def _plus_order(place: Place) -> None:
    signature = bytes.fromhex(json.loads(place.signatures.read_text())[0]["signature"])
    response = int.from_bytes(signature[32:], "little") + ORDER
    malleable = signature[:32] + response.to_bytes(32, "little")
    place.entries(lambda entries: entries[0].update(signature=malleable.hex()))


def _without_purpose(place: Place) -> None:
    signature = MAKER.sign(place.manifest.read_bytes())
    place.entries(lambda entries: entries[0].update(signature=signature.hex()))


def _link(place: Place) -> None:
    target = place.signatures.rename(place.ring.parent / "elsewhere")
    place.signatures.symlink_to(target)


def _folder(place: Place) -> None:
    place.signatures.unlink()
    place.signatures.mkdir()


def _named_by_option(place: Place) -> None:
    place.sign()
    place.keys = MAKER.trust(place.ring.parent / "named")


def _named_by_environment(place: Place) -> None:
    place.sign()
    place.environment["SGMF_TRUST"] = os.fspath(MAKER.trust(place.ring.parent / "named"))


def _revoked_elsewhere(place: Place) -> None:
    place.keys = MAKER.trust(place.ring.parent / "named", revoked=True)


def _ended_elsewhere(place: Place) -> None:
    place.keys = MAKER.trust(place.ring.parent / "named", not_after=PAST)


def _old_and_new(place: Place) -> None:
    place.trust(MAKER, revoked=True)
    place.trust(SUCCESSOR)
    place.sign(MAKER, SUCCESSOR)


def _listed(place: Place) -> None:
    record = {"sha256": "0" * 64, "size": 1}
    place.edit(lambda document: document["files"].update({"manifest.sig": record}))
    place.trust()
    place.sign()


def _required(place: Place) -> None:
    place.required = True


def _small_order(place: Place) -> None:
    key = {"name": "zero", "public_key": (1).to_bytes(32, "little").hex()}
    (place.ring / "zero.pub").write_text(json.dumps(key))


FILLER = '{"key": "' + "0" * 64 + '", "signature": "' + "0" * 128 + '"}'


def _write(text: str) -> Change:
    return trusted(lambda place: place.signatures.write_text(text))


def _ring_file(text: str) -> Change:
    return trusted(lambda place: (place.ring / "other.pub").write_text(text))


CASES = [
    Case("signed", trusted(), None, "maker"),
    Case("no key is trusted", lambda place: None, None),
    Case("no key is trusted, but signed", lambda place: place.sign(), None),
    Case("required without a key", _required, "you trust no key"),
    Case(
        "required by the environment",
        lambda place: place.environment.update(SGMF_REQUIRE_SIGNATURE="1"),
        "you trust no key",
    ),
    Case("unsigned", lambda place: place.trust(), "no manifest.sig"),
    Case("wrong key", lambda place: (place.trust(), place.sign(STRANGER)), "none is of a key"),
    Case("two signatures", trusted(lambda p: p.sign(STRANGER, MAKER)), None, "maker"),
    Case("rotated", _old_and_new, None, "successor"),
    Case("revoked", trusted(revoked=True), "maker is revoked"),
    Case("revoked elsewhere", trusted(_revoked_elsewhere), "maker is revoked"),
    Case("expired", trusted(not_after=PAST), f"ended after {PAST}"),
    Case("not yet expired", trusted(not_after=FUTURE), None, "maker"),
    Case("expired elsewhere", trusted(_ended_elsewhere, not_after=FUTURE), "ended after"),
    Case("rolled back", _released(2, sample=3), "none before release 3"),
    Case("of the least release", _released(3, sample=3), None, "maker"),
    Case("without a release", _released(None, sample=3), "no release of sample"),
    Case("least release of another package", _released(2, other=3), None, "maker"),
    Case("altered manifest", trusted(lambda p: p.release(7)), "is not of this manifest"),
    Case("damaged manifest", trusted(lambda p: flip_byte(p.manifest, -9)), "not of this manifest"),
    Case("altered network", trusted(lambda p: flip_byte(p.package / "fp32.onnx", 99)), "SHA-256"),
    Case("signed without the purpose", trusted(_without_purpose), "not of this manifest"),
    Case("malleable signature", trusted(_plus_order), "is not of this manifest"),
    Case("empty signature", _set("signature", "0" * 128), "is not of this manifest"),
    Case("key of another", _set("key", STRANGER.id), "none is of a key that you trust"),
    Case("short signature", _set("signature", "00"), "of another form"),
    Case("digits in capitals", _set("key", MAKER.id.upper()), "of another form"),
    Case("unknown field", _set("comment", "x"), "unknown fields: "),
    Case("truncated", trusted(lambda p: os.truncate(p.signatures, 200)), "is not JSON"),
    Case("not JSON", _write("maker"), "is not JSON"),
    Case("no list", _write(FILLER), "expected a list"),
    Case("empty list", _write("[]"), "none is of a key that you trust"),
    Case("duplicate keys", _write('[{"key": "", "key": ""}]'), "twice"),
    Case("two of one key", _write(f"[{FILLER}, {FILLER}]"), "two signatures of the key"),
    Case("too large", _write("[" + " " * 65536 + "]"), "larger than 64 KiB"),
    Case("nested deeply", _write("[" * 5000 + "]" * 5000), "is not JSON"),
    Case("link", trusted(_link), "packages hold no links"),
    Case("folder", trusted(_folder), "is not a regular file"),
    Case("listed in the manifest", _listed, "files lists manifest.sig"),
    Case("key named by option", _named_by_option, None, "maker"),
    Case("key named by the environment", _named_by_environment, None, "maker"),
    Case(
        "named key is missing",
        trusted(lambda place: setattr(place, "keys", place.ring / "none.pub")),
        "there is no key at",
    ),
    Case("ring open to others", trusted(lambda p: p.ring.chmod(0o777)), "written by others"),
    Case("key open to others", trusted(lambda p: p.trust().chmod(0o666)), "written by others"),
    Case("damaged key in the ring", _ring_file("{"), "is not JSON"),
    Case("key with an unknown field", _ring_file('{"curve": 1}'), "unknown fields"),
    Case("key of small order", trusted(_small_order), "no public key of Ed25519"),
]


def make_place(package: Path, folder: Path, case: Case) -> Place:
    """Copy a package named ``sample`` and change it."""
    config = folder / "config"
    place = Place(
        Path(shutil.copytree(package, folder / "sample.sgmf")), config / "segmaformer/trust.d"
    )
    place.ring.mkdir(mode=0o700, parents=True)
    place.environment["XDG_CONFIG_HOME"] = os.fspath(config)
    case.change(place)
    return place
