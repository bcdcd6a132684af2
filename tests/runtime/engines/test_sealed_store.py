from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmaformer.runtime.engines.sealed_store import KEY_BYTES, SealedStore
from segmaformer.runtime.errors import EngineError
from segmaformer.runtime.system.private_folder import PrivateFolder

CONTENT = bytes(range(64))
FACTS = {"device": "a device", "batch": [1, 2, 4]}


@pytest.fixture
def store(tmp_path: Path) -> SealedStore:
    store = SealedStore(PrivateFolder.open(tmp_path / "above" / "engines"))
    store.put("a.engine", CONTENT, FACTS)
    return store


def load(store: SealedStore, name: str = "a.engine") -> bytes:
    return store.read(store.record(name))


def test_what_was_put_comes_back(store: SealedStore) -> None:
    record = store.record("a.engine")
    assert (record.name, record.size, record.facts) == ("a.engine", len(CONTENT), FACTS)
    assert store.read(record) == CONTENT
    assert store.names(".engine") == ["a.engine"]


def test_the_key_is_random_and_the_users_alone(store: SealedStore, tmp_path: Path) -> None:
    key = store.folder.path / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    other = SealedStore(PrivateFolder.open(tmp_path / "others"))
    other.put("a.engine", CONTENT, FACTS)
    keys = {key.read_bytes(), (other.folder.path / "key").read_bytes()}
    assert [len(each) for each in keys] == [KEY_BYTES, KEY_BYTES]


def test_a_second_file_is_sealed_with_the_same_key(store: SealedStore) -> None:
    store.put("b.engine", b"", {})
    assert (load(store), load(store, "b.engine")) == (CONTENT, b"")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(store: SealedStore, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["a.engine", "a.engine.json", "key"]))
    path = store.folder.path / name
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    content = bytearray(original)
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        with pytest.raises(EngineError):
            load(store)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", ["a.engine", "a.engine.json", "key"])
@pytest.mark.parametrize("change", ["empty", "cut", "longer"])
def test_any_other_length_is_refused(store: SealedStore, name: str, change: str) -> None:
    path = store.folder.path / name
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[:-1], "longer": content + b"\n"}[change])
    with pytest.raises(EngineError):
        load(store)


def test_a_cut_file_is_named_with_both_sizes(store: SealedStore) -> None:
    (store.folder.path / "a.engine").write_bytes(CONTENT[:-5])
    with pytest.raises(EngineError, match=r"a\.engine has 59 bytes; expected 64.*build again"):
        load(store)


def test_a_record_under_another_name_is_refused(store: SealedStore) -> None:
    for suffix in ("", ".json"):
        old = store.folder.path / f"a.engine{suffix}"
        old.rename(store.folder.path / f"b.engine{suffix}")
    with pytest.raises(EngineError, match=r"is the record of a\.engine, under another name"):
        load(store, "b.engine")


def test_a_pair_from_elsewhere_is_refused(store: SealedStore, tmp_path: Path) -> None:
    other = SealedStore(PrivateFolder.open(tmp_path / "others"))
    other.put("a.engine", CONTENT, FACTS)
    for suffix in ("", ".json"):
        content = (other.folder.path / f"a.engine{suffix}").read_bytes()
        (store.folder.path / f"a.engine{suffix}").write_bytes(content)
    with pytest.raises(EngineError, match="altered, or made elsewhere"):
        load(store)


def test_an_older_file_under_a_newer_record_is_refused(store: SealedStore) -> None:
    store.put("a.engine", CONTENT[::-1], FACTS)
    (store.folder.path / "a.engine").write_bytes(CONTENT)
    with pytest.raises(EngineError, match="does not have the SHA-256 of its record"):
        load(store)


def test_nothing_can_be_checked_without_the_key(store: SealedStore) -> None:
    (store.folder.path / "key").unlink()
    with pytest.raises(EngineError, match=r"key is missing, so nothing here can be checked"):
        load(store)


def test_a_key_that_others_can_read_is_refused(store: SealedStore) -> None:
    (store.folder.path / "key").chmod(0o644)
    with pytest.raises(EngineError, match="keeps no secret"):
        load(store)


def test_a_key_of_another_length_is_named(store: SealedStore) -> None:
    (store.folder.path / "key").write_bytes(b"short")
    with pytest.raises(EngineError, match="key is no key of 32 bytes"):
        load(store)


def test_a_folder_that_others_can_move_aside_is_refused_on_every_use(store: SealedStore) -> None:
    load(store)
    store.folder.path.parent.chmod(0o777)
    with pytest.raises(EngineError, match="can be written by others"):
        load(store)


def test_a_missing_file_is_told_from_a_missing_record(store: SealedStore) -> None:
    record = store.record("a.engine")
    (store.folder.path / "a.engine").unlink()
    with pytest.raises(EngineError, match="is missing beside its record"):
        store.read(record)
    with pytest.raises(FileNotFoundError):
        store.record("none.engine")


@pytest.mark.parametrize("name", ["a.engine", "a.engine.json", "key"])
def test_a_link_is_refused(store: SealedStore, name: str) -> None:
    path = store.folder.path / name
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(EngineError, match="link"):
        load(store)


def test_a_file_exchanged_between_record_and_content_is_refused(store: SealedStore) -> None:
    record = store.record("a.engine")
    store.put("a.engine", CONTENT[::-1], FACTS)
    with pytest.raises(EngineError, match="SHA-256"):
        store.read(record)


def test_writers_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    folder = PrivateFolder.open(tmp_path / "shared")
    names = [f"{index}.engine" for index in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: SealedStore(folder).put(name, name.encode(), {}), names))
    assert [load(SealedStore(folder), name) for name in names] == [n.encode() for n in names]
