"""Reading of built engines in C++: what Python's cache wrote, refused where Python refuses it."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.native.native_builds import NATIVE, compile_library, json_headers

from segmaformer.runtime.bindings import cuda_driver
from segmaformer.runtime.engines.cache import EngineCache, EngineKey, cache_folder
from segmaformer.runtime.errors import BackendError, EngineError

FACE = Path(__file__).with_name("engine_cache_face.cc")
SOURCES = [
    *(NATIVE / f"package/engines/{name}.cc" for name in ("engine_cache", "engine_key", "hmac")),
    NATIVE / "package/engines/sealed_store.cc",
    *(NATIVE / f"package/{name}.cc" for name in ("private_folder", "sha256", "typed_json")),
    *(NATIVE / f"system/{name}.cc" for name in ("home_folder", "shared_library")),
    NATIVE / "cuda/driver/driver.cc",
]
KEY = EngineKey(
    package_sha256="aa" * 32,
    variant="fp16",
    variant_sha256="bb" * 32,
    builder="tensorrt",
    builder_version="10.3.0.26",
    segmaformer="0.1.0",
    plugin_sha256="cc" * 32,
    cuda="12.6",
    driver="540.4.0",
    device="Orin",
    compute_capability="8.7",
)
ENGINE = b"native code"
STRANGER = 54321

Verdict = tuple[str, str]


class Face:
    """Load the functions of engine_cache_face.cc."""

    def __init__(self, path: Path):
        self._library = ctypes.CDLL(str(path))

    def load(self, folder: Path | str, wanted: EngineKey = KEY) -> Verdict:
        return self._call("load", os.fsencode(folder), to_json(wanted))

    def digest(self, key: EngineKey) -> str:
        return self._call("digest", to_json(key))[1]

    def release(self, *files: Path) -> str:
        return self._call("release", *map(os.fsencode, files))[1]

    def folder(self) -> Verdict:
        return self._call("folder")

    def _call(self, name: str, *arguments: bytes) -> Verdict:
        text = ctypes.create_string_buffer(1 << 16)
        function = getattr(self._library, f"test_{name}")
        status = function(*arguments, text, ctypes.c_size_t(len(text)))
        return ("", "missing", "refused")[status], text.value.decode()


def to_json(key: EngineKey) -> bytes:
    return json.dumps(dataclasses.asdict(key)).encode()


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Face:
    options = (f"-I{NATIVE}", "-isystem", str(json_headers()))
    output = tmp_path_factory.mktemp("engines") / "libengine_cache_face.so"
    return Face(compile_library(output, [FACE, *SOURCES], *options, over_op_library=False))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / "above" / "engines")
    cache.store(KEY, ENGINE)
    return cache


def changed(**changes: Any) -> EngineKey:
    return dataclasses.replace(KEY, **changes)


def by_python(cache: EngineCache, wanted: EngineKey = KEY) -> Verdict:
    try:
        return "", cache.load(wanted, remedy="run: sgmf build").content.decode()
    except BackendError as error:
        return "missing", str(error)
    except EngineError as error:
        return "refused", str(error)


def test_an_engine_that_python_kept(face: Face, cache: EngineCache) -> None:
    assert face.load(cache.path) == by_python(cache) == ("", "native code")


def test_the_latest_engine_is_taken_whatever_its_batch(face: Face, cache: EngineCache) -> None:
    cache.store(changed(batch=(1, 4, 4)), b"later", {"built": "9999-01-01T00:00:00+00:00"})
    cache.store(changed(batch=(1, 2, 2)), b"older", {"built": "1999-01-01T00:00:00+00:00"})
    assert face.load(cache.path) == by_python(cache) == ("", "later")


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        changed(plugin_sha256=None, cuda=None, driver=None, device=None, compute_capability=None),
        changed(target="sm86", batch=(1, 8, 16)),
        changed(device='a "quoted" \\ name\t\x7f\x01', driver="Grüße 💡", variant="/"),
    ],
)
def test_digests_are_those_of_python(face: Face, key: EngineKey) -> None:
    assert face.digest(key) == key.digest


@pytest.mark.parametrize("version", ["10.3.0", "10.3.0.26", "10.3.0.post1", "10.3.0.26.post12"])
def test_python_may_say_the_version_shorter(face: Face, tmp_path: Path, version: str) -> None:
    cache = EngineCache(tmp_path / "engines")
    cache.store(changed(builder_version=version), ENGINE)
    assert face.load(cache.path) == ("", "native code")


@pytest.mark.parametrize("version", ["10.3", "10.3.1", "10.3.0.27", "10.3.0.2", "110.3.0", ""])
def test_another_version_is_another_engine(face: Face, tmp_path: Path, version: str) -> None:
    cache = EngineCache(tmp_path / "engines")
    cache.store(changed(builder_version=version), ENGINE)
    status, text = face.load(cache.path)
    assert status == "missing"
    found = f"the builder's version was {version or 'none'}, here it is 10.3.0.26"
    assert found in text


@pytest.mark.parametrize(
    "field",
    [field.name for field in dataclasses.fields(EngineKey) if field.name != "batch"],
)
@pytest.mark.parametrize("value", ["another", None])
def test_every_difference_is_named_as_in_python(
    face: Face, cache: EngineCache, field: str, value: str | None
) -> None:
    optional = KEY.__dataclass_fields__[field].default is None
    if value is None and not optional:
        pytest.skip("never none")
    wanted = changed(**{field: value})
    status, text = face.load(cache.path, wanted)
    status_of_python, text_of_python = by_python(cache, wanted)
    if field == "plugin_sha256":
        text_of_python += ". Take the plugin along"
    assert (status, text) == (status_of_python, text_of_python)
    assert status == ("" if getattr(KEY, field) == value else "missing")


def test_the_nearest_of_several_is_the_one_that_is_named(face: Face, cache: EngineCache) -> None:
    cache.store(changed(device="H200", driver="999", cuda="13.1"), b"other")
    cache.store(changed(device="H200"), b"nearer")
    wanted = changed(device="H100")
    assert face.load(cache.path, wanted) == by_python(cache, wanted)


def test_without_a_folder_there_is_no_engine(face: Face, tmp_path: Path) -> None:
    status, text = face.load(tmp_path / "none")
    assert status == "missing"
    assert text.endswith(f"for this package in {tmp_path}/none; run: sgmf build")
    assert not (tmp_path / "none").exists()


# Refusals: each is done to a sound folder, and both languages then say the same ------------


def sealed(folder: Path, text: bytes) -> bytes:
    """Write a record with any text and the folder's own seal."""
    key = (folder / "key").read_bytes()
    mac = hmac.new(key, b"segmaformer sealed file 1\n" + text, hashlib.sha256).hexdigest()
    return b'{\n  "hmac_sha256": "%s",\n' % mac.encode() + text.removeprefix(b"{\n")


def record_with(**changes: Any) -> Callable[[Path], bytes]:
    def content(folder: Path) -> bytes:
        found = json.loads((folder / f"{NAME}.json").read_bytes())
        del found["hmac_sha256"]
        return sealed(folder, json.dumps({**found, **changes}, indent=2).encode() + b"\n")

    return content


NAME = f"{KEY.digest}.engine"
RECORD = f"{NAME}.json"

Mutant = tuple[str, Callable[[Path], bytes | None]]
"""A file and its new content, from the folder; None removes it."""

SAME_WORDS: dict[str, Mutant] = {
    "engine altered": (NAME, lambda _: b"evil code  "),
    "engine cut": (NAME, lambda _: ENGINE[:-1]),
    "engine longer": (NAME, lambda _: ENGINE + b"!"),
    "engine empty": (NAME, lambda _: b""),
    "engine missing": (NAME, lambda _: None),
    "record altered": (RECORD, lambda f: (f / RECORD).read_bytes().replace(b"Orin", b"Thor")),
    "record empty": (RECORD, lambda _: b""),
    "record cut": (RECORD, lambda f: (f / RECORD).read_bytes()[:-1]),
    "record without seal": (RECORD, lambda f: (f / RECORD).read_bytes().replace(b"hmac", b"hnac")),
    "record in another case": (
        RECORD,
        lambda f: (f / RECORD).read_bytes()[:21] + (f / RECORD).read_bytes()[21:85].upper()
        + (f / RECORD).read_bytes()[85:],
    ),
    "record too large": (RECORD, lambda f: (f / RECORD).read_bytes() + b" " * (1 << 20)),
    "record missing": (RECORD, lambda _: None),
    "key missing": ("key", lambda _: None),
    "key of others": ("key", lambda _: b"k" * 32),
    "key cut": ("key", lambda f: (f / "key").read_bytes()[:-1]),
    "key longer": ("key", lambda f: (f / "key").read_bytes() + b"\n"),
    "record of another name": (RECORD, record_with(name="other.engine")),
    "size too small": (RECORD, record_with(size=len(ENGINE) - 1)),
    "size too large": (RECORD, record_with(size=len(ENGINE) + 1)),
    "digest of another": (RECORD, record_with(sha256="00" * 32)),
    "digest in capitals": (RECORD, record_with(sha256=hashlib.sha256(ENGINE).hexdigest().upper())),
    "no facts": (RECORD, record_with(facts={})),
    "key lacks a field": (RECORD, record_with(facts={"key": {"variant": "fp16"}, "built": ""})),
    "key under another name": (
        RECORD,
        record_with(facts={"key": dataclasses.asdict(changed(device="Thor")), "built": ""}),
    ),
}  # fmt: skip
OWN_WORDS: dict[str, Mutant] = {
    "size is no number": (RECORD, record_with(size="11")),
    "size is true": (RECORD, record_with(size=True)),
    "size is negative": (RECORD, record_with(size=-1)),
    "facts are a list": (RECORD, record_with(facts=[])),
    "sealed text is no JSON": (RECORD, lambda f: sealed(f, b"{\n  nothing")),
    "sealed text is no UTF-8": (RECORD, lambda f: sealed(f, b'{\n  "\xff": 1}')),
    "a name twice": (RECORD, lambda f: sealed(f, b'{\n  "name": "a", "name": "b"}')),
    "key with more": (
        RECORD,
        record_with(facts={"key": {**dataclasses.asdict(KEY), "colour": "red"}, "built": ""}),
    ),
    "batch is no list": (
        RECORD,
        record_with(facts={"key": {**dataclasses.asdict(KEY), "batch": [1, 1]}, "built": ""}),
    ),
    "key is a text": (RECORD, record_with(facts={"key": "none", "built": ""})),
}


def mutate(cache: EngineCache, mutant: Mutant) -> None:
    name, change = mutant
    content = change(cache.path)
    if content is None:
        (cache.path / name).unlink()
    else:
        (cache.path / name).write_bytes(content)


@pytest.mark.parametrize("mutant", SAME_WORDS.values(), ids=SAME_WORDS)
def test_refusals_are_those_of_python(face: Face, cache: EngineCache, mutant: Mutant) -> None:
    mutate(cache, mutant)
    found = face.load(cache.path)
    assert found == by_python(cache)
    assert found[0] == ("missing" if mutant == SAME_WORDS["record missing"] else "refused")


@pytest.mark.parametrize("mutant", OWN_WORDS.values(), ids=OWN_WORDS)
def test_refusals_in_words_of_their_own(face: Face, cache: EngineCache, mutant: Mutant) -> None:
    mutate(cache, mutant)
    assert face.load(cache.path)[0] == by_python(cache)[0] == "refused"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(face: Face, cache: EngineCache, data: st.DataObject) -> None:
    path = cache.path / data.draw(st.sampled_from([NAME, RECORD, "key"]))
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    content = bytearray(original)
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        assert face.load(cache.path) == by_python(cache)
        assert face.load(cache.path)[0] == "refused"
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("level", ["itself", "above", "engine", "record", "key"])
def test_what_others_can_write_is_refused(
    face: Face, cache: EngineCache, mode: int, level: str
) -> None:
    folder = cache.path
    places = {"itself": folder, "above": folder.parent, "engine": folder / NAME}
    places |= {"record": folder / RECORD, "key": folder / "key"}
    places[level].chmod(mode)
    accepted = level == "above" and mode == 0o1777  # as /tmp
    found = face.load(folder)
    assert found == by_python(cache)
    assert found[0] == ("" if accepted else "refused")
    assert accepted or "can be written by others" in found[1]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610])
def test_a_key_that_others_can_read_is_refused(face: Face, cache: EngineCache, mode: int) -> None:
    (cache.path / "key").chmod(mode)
    assert face.load(cache.path) == by_python(cache)
    assert "so it keeps no secret" in face.load(cache.path)[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("level", ["itself", "above", "engine", "record", "key"])
def test_what_belongs_to_others_is_refused(face: Face, cache: EngineCache, level: str) -> None:
    folder = cache.path
    places = {"itself": folder, "above": folder.parent, "engine": folder / NAME}
    places |= {"record": folder / RECORD, "key": folder / "key"}
    os.chown(places[level], STRANGER, STRANGER)
    found = face.load(folder)
    assert found == by_python(cache)
    assert f"belongs to user {STRANGER}; expected user 0 or root" in found[1]


@pytest.mark.parametrize("name", [NAME, RECORD, "key"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(
    face: Face, cache: EngineCache, name: str, kind: str
) -> None:
    path, elsewhere = cache.path / name, cache.path / "elsewhere"
    path.rename(elsewhere)
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(mode=0o700)
    else:
        path.symlink_to(elsewhere if kind == "link" else "nowhere")
    found = face.load(cache.path)
    assert found == by_python(cache)
    assert found[0] == "refused"


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_a_folder_that_is_a_link_is_refused(
    face: Face, cache: EngineCache, tmp_path: Path, ending: str
) -> None:
    link = tmp_path / "link"
    link.symlink_to(cache.path)
    assert face.load(f"{link}{ending}") == (
        "refused",
        f"{link} is a link; name the folder that it leads to",
    )


def test_links_above_are_resolved_before_the_check(
    face: Face, cache: EngineCache, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(cache.path.parent)
    assert face.load(link / "engines")[0] == ""
    cache.path.parent.chmod(0o777)
    status, text = face.load(link / "engines")
    assert status == "refused"
    assert "above can be written by others" in text


def test_a_file_in_the_place_of_the_folder_is_refused(face: Face, tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("no folder")
    status, text = face.load(tmp_path / "engines")
    assert (status, "cannot be opened as a folder" in text) == ("refused", True)


RELEASES = {
    "a discrete GPU": b"570.124.06\n",
    "a Jetson": b"# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\nmore\n",
    "blanks": b" \t540.4.0 \r\n",
    "no end of line": b"540.4.0",
    "empty": b"",
    "an empty line": b"\nmore\n",
    "beyond ASCII": b"54\xff\xc3\xa4\n",
}


@pytest.mark.parametrize("content", [*RELEASES.values(), None], ids=[*RELEASES, "no file"])
def test_the_drivers_release_is_that_of_python(
    face: Face, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    files = (tmp_path / "first", tmp_path / "second")
    if content is not None:
        files[0].write_bytes(content)
    for second in (None, b"R36\n"):
        if second:
            files[1].write_bytes(second)
        monkeypatch.setattr(cuda_driver, "DRIVER_VERSIONS", files)
        expected = cuda_driver.driver_release()
        assert face.release(*files) == ("none" if expected is None else expected)


def test_the_folder_is_that_of_python(
    face: Face, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for named in (None, "", "/mine", "~", "~/mine"):
        if named is None:
            monkeypatch.delenv("SGMF_CACHE")
        else:
            monkeypatch.setenv("SGMF_CACHE", named)
        status, text = face.folder()
        assert (status, Path(text)) == ("", cache_folder().expanduser())
    monkeypatch.setenv("SGMF_CACHE", "~root/mine")
    assert face.folder()[0] == "refused"
