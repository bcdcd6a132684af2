from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.samples import copy_package, edit_manifest, flip_byte, sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import FileRecord, Variant
from segmaformer.runtime.package.reader import MAX_MANIFEST_BYTES, Package
from segmaformer.runtime.package.seal import seal

FILES = {
    "fp32.onnx": bytes(range(256)) * 3,
    "card.md": b"# sample\n",
    "engines/plan": b"\0" * 7,
    "empty": b"",
}


def write_package(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    records = {
        name: FileRecord(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in files.items()
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_bytes(seal(sample_manifest(files=records).to_json()))
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "sample.sgmf")


def test_an_intact_package_opens(package: Path) -> None:
    opened = Package.open(package)
    assert opened == Package.open(str(package))
    assert opened.manifest.name == "sample"
    assert {name: opened.read(name) for name in FILES} == FILES


def test_a_package_may_be_reached_through_a_link(package: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(package)
    assert Package.open(tmp_path / "link").read("engines/plan") == FILES["engines/plan"]


def test_a_package_may_be_named_relative_to_the_current_folder(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package)
    assert Package.open(".").read("card.md") == FILES["card.md"]


def test_a_missing_package_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no package at"):
        Package.open(tmp_path / "none.sgmf")


def test_a_folder_or_file_without_a_manifest_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(PackageError, match=r"is no package: it has no manifest\.json"):
            Package.open(path)


@pytest.mark.parametrize("name", ["fp32.onnx", "card.md", "engines/plan", "manifest.json"])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=25)
def test_one_flipped_bit_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: float, bit: int
) -> None:
    package = write_package(tmp_path_factory.mktemp("flipped"))
    content = bytearray((package / name).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    (package / name).write_bytes(bytes(content))
    with pytest.raises(PackageError):
        Package.open(package)


def test_damage_that_leaves_the_manifest_readable_is_refused(package: Path) -> None:
    edit_manifest(package, "hippocampus", "hippocampvs", reseal=False)
    with pytest.raises(PackageError, match="damaged or altered"):
        Package.open(package)
    edit_manifest(package, "hippocampvs", "hippocampus", reseal=False)
    Package.open(package)


@pytest.mark.parametrize("name", ["fp32.onnx", "card.md", "manifest.json"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_length_is_refused(package: Path, name: str, change: int) -> None:
    content = (package / name).read_bytes()
    (package / name).write_bytes(content[:change] if change < 0 else content + b"\0")
    with pytest.raises(PackageError, match=name):
        Package.open(package)


def test_the_message_says_which_size_was_expected(package: Path) -> None:
    (package / "card.md").write_bytes(b"#")
    with pytest.raises(PackageError, match=r"card\.md does not have the 9 bytes .* export"):
        Package.open(package)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_refused(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(PackageError):
        Package.open(package)


@pytest.mark.parametrize("name", ["fp32.onnx", "card.md", "engines/plan", "manifest.json"])
def test_a_folder_in_place_of_a_file_is_refused(package: Path, name: str) -> None:
    (package / name).unlink()
    (package / name).mkdir()
    with pytest.raises(PackageError, match="not a regular file"):
        Package.open(package)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(package: Path) -> None:
    (package / "card.md").unlink()
    os.mkfifo(package / "card.md")
    with pytest.raises(PackageError, match="not a regular file"):
        Package.open(package)


@pytest.mark.parametrize("name", ["fp32.onnx", "card.md", "engines/plan", "manifest.json"])
def test_a_link_in_place_of_a_file_is_refused(package: Path, tmp_path: Path, name: str) -> None:
    (package / name).rename(tmp_path / "outside")
    (package / name).symlink_to(tmp_path / "outside")
    with pytest.raises(PackageError, match="packages hold no links"):
        Package.open(package)


def test_a_link_within_the_package_is_refused(package: Path) -> None:
    (package / "card.md").rename(package / "elsewhere")
    (package / "card.md").symlink_to("elsewhere")
    with pytest.raises(PackageError, match="packages hold no links"):
        Package.open(package)


def test_a_link_in_place_of_a_folder_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "engines").rename(tmp_path / "engines")
    (package / "engines").symlink_to(tmp_path / "engines")
    with pytest.raises(PackageError, match="packages hold no links"):
        Package.open(package)


@pytest.mark.parametrize("target", ["card.md", "nowhere"])
def test_a_link_that_leads_nowhere_is_refused(package: Path, target: str) -> None:
    (package / "card.md").unlink()
    (package / "card.md").symlink_to(target)
    with pytest.raises(PackageError):
        Package.open(package)


@pytest.mark.parametrize("name", ["../outside", "engines/../../outside", "{tmp_path}/outside"])
def test_a_path_that_leaves_the_package_is_refused(
    package: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside").write_bytes(b"# sample\n")
    edit_manifest(package, '"card.md"', f'"{name.format(tmp_path=tmp_path)}"')
    with pytest.raises(PackageError, match="may lead out of the package"):
        Package.open(package)


@pytest.mark.parametrize("name", ["../outside", "{tmp_path}/outside", "a\0b", "x" * 300])
def test_reading_refuses_such_paths_by_itself(package: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"")
    name = name.format(tmp_path=tmp_path)
    record = FileRecord(hashlib.sha256(b"").hexdigest(), 0)
    manifest = dataclasses.replace(Package.open(package).manifest, files={name: record})
    with pytest.raises(PackageError):
        Package(package, manifest).read(name)


def test_a_file_that_is_not_listed_cannot_be_read(package: Path) -> None:
    (package / "extra").write_bytes(b"1")
    with pytest.raises(PackageError, match="extra is not listed"):
        Package.open(package).read("extra")


def test_bytes_are_checked_again_as_they_are_read(package: Path) -> None:
    opened = Package.open(package)
    flip_byte(package / "fp32.onnx", 100)
    with pytest.raises(PackageError, match="SHA-256"):
        opened.read("fp32.onnx")


def test_a_size_beyond_any_memory_is_refused(package: Path) -> None:
    edit_manifest(package, '"size": 9\n', f'"size": {10**30}\n')
    with pytest.raises(PackageError, match="bytes that its manifest states"):
        Package.open(package)


def test_a_huge_manifest_is_not_read(package: Path) -> None:
    with (package / "manifest.json").open("r+b") as stream:
        stream.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(PackageError, match="larger than 16 MiB"):
        Package.open(package)


def test_a_variant_whose_file_is_not_listed_is_refused(package: Path) -> None:
    manifest = Package.open(package).manifest
    variants = {**manifest.variants, "fp16": Variant("fp16.onnx", {}, {})}
    text = dataclasses.replace(manifest, variants=variants).to_json()
    (package / "manifest.json").write_bytes(seal(text))
    with pytest.raises(PackageError, match=r"files does not list 'fp16\.onnx'"):
        Package.open(package)


def test_an_exported_package_survives_copying_and_no_flipped_byte(
    tiny_package_path: Path, tmp_path: Path
) -> None:
    package = copy_package(tiny_package_path, tmp_path)
    names = sorted(path.name for path in package.iterdir())
    assert names == ["card.md", "fp16.onnx", "fp32.onnx", "manifest.json", "reference.npz"]
    Package.open(package)
    for name in names:
        size = (package / name).stat().st_size
        for position in (0, size // 3, size - 1):
            flip_byte(package / name, position)
            with pytest.raises(PackageError):
                Package.open(package)
            flip_byte(package / name, position)
    Package.open(package)
    shutil.rmtree(package)
