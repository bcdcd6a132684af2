from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.packages.samples import sample_manifest

from segmaformer.runtime.engines.cache import EngineCache, EngineKey, cache_folder, package_key
from segmaformer.runtime.errors import BackendError, EngineError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.seal import seal

KEY = EngineKey(
    package_sha256="aa" * 32,
    variant="fp16",
    variant_sha256="bb" * 32,
    builder="tensorrt",
    builder_version="10.3.0",
    segmaformer="0.1.0",
    plugin_sha256="cc" * 32,
    cuda="12.6",
    driver="540.4.0",
    device="Orin",
    compute_capability="8.7",
    batch=(1, 1, 1),
)
ENGINE = b"native code"
REMEDY = "run: sgmf build"


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / "engines")
    cache.store(KEY, ENGINE, {"seconds": 12.5})
    return cache


def changed(**changes: Any) -> EngineKey:
    return dataclasses.replace(KEY, **changes)


def test_an_engine_comes_back_with_what_was_noted(cache: EngineCache) -> None:
    engine = cache.load(KEY, remedy=REMEDY)
    assert (engine.content, engine.key, engine.facts["seconds"]) == (ENGINE, KEY, 12.5)


def test_the_digest_is_of_every_field() -> None:
    digests = {KEY.digest}
    for field in dataclasses.fields(EngineKey):
        digests.add(changed(**{field.name: (1, 2, 4) if field.name == "batch" else "x"}).digest)
    assert len(digests) == 1 + len(dataclasses.fields(EngineKey))


def test_the_digest_is_the_same_everywhere() -> None:
    document = json.dumps(dataclasses.asdict(KEY), sort_keys=True, separators=(",", ":"))
    assert json.loads(document)["batch"] == [1, 1, 1]
    assert KEY.digest == EngineKey(**dataclasses.asdict(KEY)).digest


@pytest.mark.parametrize(
    ("field", "name"),
    [("device", "the device"), ("driver", "the driver"), ("cuda", "CUDA"),
     ("builder_version", "the builder's version"), ("plugin_sha256", "the plugin library"),
     ("compute_capability", "the compute capability"), ("package_sha256", "the package"),
     ("segmaformer", "segmaformer")],
)  # fmt: skip
def test_an_engine_of_another_machine_is_not_used_and_the_difference_named(
    cache: EngineCache, field: str, name: str
) -> None:
    wanted = changed(**{field: "another"})
    found = getattr(KEY, field)
    with pytest.raises(
        BackendError, match=rf"{name} was {found}, here it is another\).*; run: sgmf build"
    ):
        cache.load(wanted, remedy=REMEDY)


@pytest.mark.parametrize("field", ["builder", "variant_sha256"])
def test_an_engine_of_another_network_or_builder_is_not_mentioned(
    cache: EngineCache, field: str
) -> None:
    with pytest.raises(BackendError, match=r"there is no \S+ engine of variant fp16 for") as error:
        cache.load(changed(**{field: "another"}), remedy=REMEDY)
    assert "here it is" not in str(error.value)


def test_the_latest_engine_is_taken_whatever_its_batch(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(changed(batch=(1, 4, 4)), b"larger", {"built": "9999-01-01T00:00:00+00:00"})
    engine = cache.load(KEY, remedy=REMEDY)
    assert (engine.content, engine.key.batch) == (b"larger", (1, 4, 4))


def test_building_again_replaces_the_engine(cache: EngineCache) -> None:
    cache.store(KEY, b"newer")
    assert cache.load(KEY, remedy=REMEDY).content == b"newer"


def test_a_damaged_engine_is_refused_even_beside_a_sound_one_of_another_machine(
    cache: EngineCache,
) -> None:
    cache.store(changed(driver="another"), b"other")
    record = cache.path / f"{KEY.digest}.engine.json"
    record.write_bytes(record.read_bytes().replace(b"540.4.0", b"540.4.1"))
    with pytest.raises(EngineError, match="altered, or made elsewhere"):
        cache.load(KEY, remedy=REMEDY)


def test_an_engine_with_the_record_of_another_machine_is_refused(cache: EngineCache) -> None:
    """The keyed hash binds the record to its name, and the name to the key."""
    other = changed(device="H200")
    cache.store(other, b"other")
    for suffix in ("", ".json"):
        source = cache.path / f"{other.digest}.engine{suffix}"
        (cache.path / f"{KEY.digest}.engine{suffix}").write_bytes(source.read_bytes())
    with pytest.raises(EngineError, match="under another name"):
        cache.load(KEY, remedy=REMEDY)


def test_a_record_of_another_layout_is_refused(cache: EngineCache) -> None:
    cache.remember(f"{'0' * 64}.engine", b"", {"key": {"colour": "red"}})
    with pytest.raises(EngineError, match="of another segmaformer"):
        cache.load(changed(device="another"), remedy=REMEDY)


def test_a_key_under_another_name_is_refused(cache: EngineCache) -> None:
    cache.remember(f"{'0' * 64}.engine", b"", {"key": dataclasses.asdict(KEY)})
    with pytest.raises(EngineError, match="does not have the name of its key"):
        cache.load(changed(device="another"), remedy=REMEDY)


def test_other_things_are_kept_under_the_same_rules(cache: EngineCache) -> None:
    assert cache.recall("x.timing") is None
    cache.remember("x.timing", b"tactics", {"device": "Orin"})
    assert cache.recall("x.timing") == (b"tactics", {"device": "Orin"})
    (cache.path / "x.timing").write_bytes(b"tactica")
    with pytest.raises(EngineError, match="SHA-256"):
        cache.recall("x.timing")


def test_the_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SGMF_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "segmaformer" / "engines"
    monkeypatch.setenv("SGMF_CACHE", str(tmp_path / "mine"))
    assert EngineCache().path == (tmp_path / "mine").resolve()


def test_a_packages_part_of_the_key_changes_with_its_manifest(tmp_path: Path) -> None:
    manifest = sample_manifest()
    package = Package(tmp_path, manifest)
    (tmp_path / "manifest.json").write_bytes(seal(manifest.to_json()))
    first = package_key(package, "fp32")
    assert (first["variant"], first["variant_sha256"]) == ("fp32", "0" * 64)
    (tmp_path / "manifest.json").write_bytes(seal(sample_manifest(created="later").to_json()))
    assert package_key(package, "fp32")["package_sha256"] != first["package_sha256"]
