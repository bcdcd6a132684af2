from __future__ import annotations

import io
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.checkpoint.files.one_file import load_document
from segmaformer.runtime.errors import InputError

WEIGHTS = {"a": torch.arange(500.0), "b": torch.full((70,), 0.25)}


def saved(document: Any = WEIGHTS) -> bytes:
    stream = io.BytesIO()
    torch.save(document, stream)
    return stream.getvalue()


SAVED = saved()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.pth"
    path.write_bytes(content)
    return path


def members(content: bytes) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.infolist()


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def entries(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_what_torch_saves_is_read(tmp_path: Path) -> None:
    document, sentences = load_document(written(tmp_path, SAVED))
    assert torch.equal(document["a"], WEIGHTS["a"])
    assert sentences == ()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_was_packed_again_is_read(tmp_path: Path, method: int) -> None:
    document, _ = load_document(written(tmp_path, zipped(entries(SAVED), method)))
    assert torch.equal(document["a"], WEIGHTS["a"])


def test_every_member_is_checked(tmp_path: Path) -> None:
    """One bit in the middle of each member's data; torch.load notices none in the weights."""
    for member in members(SAVED):
        start = member.header_offset + 30
        start += sum(struct.unpack_from("<HH", SAVED, member.header_offset + 26))
        content = bytearray(SAVED)
        content[start + member.file_size // 2] ^= 1
        with pytest.raises(InputError, match="is damaged"):
            load_document(written(tmp_path, bytes(content)))


@given(st.data())
@settings(max_examples=150)
def test_flipped_bits_never_change_a_weight(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(SAVED)
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    try:
        document, _ = load_document(written(tmp_path_factory.mktemp("flipped"), bytes(content)))
    except InputError:
        return
    assert all(torch.equal(document[name], tensor) for name, tensor in WEIGHTS.items())


@given(st.data())
@settings(max_examples=80)
def test_cut_files_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, len(SAVED) - 1))
    with pytest.raises(InputError):
        load_document(written(tmp_path_factory.mktemp("cut"), SAVED[:kept]))


def test_a_file_without_checksums_says_so(tmp_path: Path) -> None:
    options = pytest.importorskip("torch.serialization")
    if not hasattr(options, "set_crc32_options"):
        pytest.skip("this PyTorch always writes checksums")
    options.set_crc32_options(False)
    try:
        content = saved()
    finally:
        options.set_crc32_options(True)
    document, (sentence,) = load_document(written(tmp_path, content))
    assert torch.equal(document["a"], WEIGHTS["a"])
    assert "saved without any" in sentence


SHORT = zipped(entries(SAVED))
"""Archive without the records of large ones, which PyTorch always writes."""


def with_directory(change: Callable[[bytearray, int], None], saved: bytes = SHORT) -> bytes:
    """Return the archive with its directory changed, given where the entry of data/0 begins."""
    content = bytearray(saved)
    name = content.rindex(b"/data/0") - len("archive")
    change(content, name - 46)
    return bytes(content)


def set_size(content: bytearray, entry: int) -> None:
    struct.pack_into("<LL", content, entry + 20, 1 << 31, 1 << 31)


def set_offset(content: bytearray, entry: int) -> None:
    struct.pack_into("<L", content, entry + 42, 0)


def encrypt(content: bytearray, entry: int) -> None:
    content[entry + 8] |= 1


def other_method(content: bytearray, entry: int) -> None:
    content[entry + 10] = 99


def many_members(content: bytearray, entry: int) -> None:
    end = content.rindex(b"PK\5\6")
    struct.pack_into("<HHL", content, end + 8, 0xFFFE, 0xFFFE, 1 << 31)


def lost_zip64(content: bytearray, entry: int) -> None:
    end = content.rindex(b"PK\5\6")
    struct.pack_into("<HHL", content, end + 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF)


def large_zip64(content: bytearray, entry: int) -> None:
    end = content.rindex(b"PK\6\6")
    struct.pack_into("<QQQ", content, end + 24, 1 << 40, 1 << 40, 1 << 60)


def lost_locator(content: bytearray, entry: int) -> None:
    struct.pack_into("<Q", content, content.rindex(b"PK\6\7") + 8, 1 << 60)


def moved_directory(content: bytearray, entry: int) -> None:
    end = content.rindex(b"PK\5\6")
    struct.pack_into("<L", content, end + 16, 7)


BOMB = zipped([("a/data.pkl", bytes(200_000_000))], zipfile.ZIP_DEFLATED)

HOSTILE = {
    "a member beyond the end": (with_directory(set_size), "more room than"),
    "two members in one place": (with_directory(set_offset), "more room than|not as saved"),
    "encrypted": (with_directory(encrypt), "is encrypted"),
    "another method": (with_directory(other_method), "is damaged"),
    "too many members": (
        with_directory(many_members),
        "is damaged: the directory .* larger than the file",
    ),
    "no large directory": (with_directory(lost_zip64), "larger than the file"),
    "a huge directory": (with_directory(large_zip64, SAVED), "larger than the file"),
    "a directory nowhere": (with_directory(lost_locator, SAVED), "points nowhere"),
    "directory elsewhere": (with_directory(moved_directory), "is damaged"),
    "no directory": (SAVED[: SAVED.rindex(b"PK\5\6")], "is damaged: the directory"),
    "a bomb": (BOMB, "no weights compress like that"),
    "not of torch": (zipped([("notes.txt", b"text")]), "zip archive without data.pkl"),
    "empty": (b"PK\3\4", "is damaged"),
    "NumPy": (zipped([("a.npy", b"text")]), "file of NumPy arrays"),
    "a checkpoint inside": (zipped([("x/best.pth", b"1")]), r"such as x/best\.pth"),
    "a package inside": (zipped([("x.sgmf/manifest.json", b"1")]), "zip archive of a package"),
    "Keras": (zipped([("config.json", b"1"), ("model.weights.h5", b"2")]), "a Keras model"),
    "TorchScript": (zipped([("a/data.pkl", b"1"), ("a/code/a.py", b"2")]), "TorchScript archive"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(tmp_path: Path, name: str) -> None:
    content, complaint = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=complaint):
        load_document(written(tmp_path, content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_listed_twice(tmp_path: Path) -> None:
    content = zipped([*entries(SAVED), entries(SAVED)[0]])
    with pytest.raises(InputError, match="more than once in its zip archive"):
        load_document(written(tmp_path, content))


def test_a_file_of_holes_is_refused_unread(tmp_path: Path) -> None:
    path = written(tmp_path, SAVED)
    with path.open("r+b") as file:
        file.truncate(40 << 30)
    with pytest.raises(InputError, match=r"of the 40960 MiB .* were ever written"):
        load_document(path)
    with path.open("r+b") as file:
        file.truncate(1 << 42)
    with pytest.raises(InputError, match="no checkpoint has over 64"):
        load_document(path)
