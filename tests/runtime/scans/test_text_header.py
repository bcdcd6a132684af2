from __future__ import annotations

from pathlib import Path

import pytest

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.text_header import TextHeader


def header_naming(folder: Path, name: str) -> TextHeader:
    return TextHeader(folder / "scan.nhdr", {"data file": name}, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the folder of a header, with voxels in it, below it and above it."""
    for name in ("voxels.raw", "below/voxels.raw", "../voxels.raw"):
        (tmp_path / "case" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "case" / name).write_bytes(b"voxels")
    return tmp_path / "case"


@pytest.mark.parametrize("name", ["voxels.raw", "./voxels.raw", "below/voxels.raw"])
def test_files_in_the_folder_are_found(folder: Path, name: str) -> None:
    assert header_naming(folder, name).detached_file("data file").read_bytes() == b"voxels"


@pytest.mark.parametrize(
    "name",
    [
        "../voxels.raw",
        "below/../../voxels.raw",
        "below/../voxels.raw",
        "/etc/hostname",
        "..\\voxels.raw",
        "C:\\voxels.raw",
        "C:voxels.raw",
        "\\\\server\\share\\voxels.raw",
        "linked.raw",
        "linked/voxels.raw",
    ],
)
def test_names_that_leave_the_folder_are_refused(folder: Path, name: str) -> None:
    (folder / "linked.raw").symlink_to(folder.parent / "voxels.raw")
    (folder / "linked").symlink_to(folder.parent)
    with pytest.raises(InputError, match="outside its own folder; put the two files into one"):
        header_naming(folder, name).detached_file("data file")


@pytest.mark.parametrize("name", ["absent.raw", "below", "", "a\0b", "x" * 5000, "loop.raw"])
def test_names_of_no_file_are_refused(folder: Path, name: str) -> None:
    (folder / "loop.raw").symlink_to("loop.raw")
    with pytest.raises(InputError, match="no such file beside it"):
        header_naming(folder, name).detached_file("data file")


def test_a_folder_reached_by_a_link_counts_as_the_headers_own(folder: Path) -> None:
    (folder.parent / "other").symlink_to(folder)
    header = header_naming(folder.parent / "other", "voxels.raw")
    assert header.detached_file("data file").read_bytes() == b"voxels"


def test_long_values_are_shortened_in_messages(folder: Path) -> None:
    header = TextHeader(folder / "scan.nhdr", {"sizes": "x" * 100_000}, 0)
    with pytest.raises(InputError, match=r"x\.\.\.'; expected whole numbers") as refusal:
        header.integers("sizes", 3)
    assert len(str(refusal.value)) < 400
