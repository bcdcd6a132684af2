"""Scans that come as bytes, and zips that a stranger may have made."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.scans.report_phantom import phantom

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.from_bytes import kept_as_files
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.scans.zip_of_images import TooLargeError, unpack_images

MOST_BYTES = 1000


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_bytes_are_read_as_the_file(tmp_path: Path, suffix: str) -> None:
    segmentation = phantom()
    content = segmentation.to_bytes(suffix)
    segmentation.save(tmp_path / f"labels{suffix}")
    assert (tmp_path / f"labels{suffix}").read_bytes() == content
    volume = Volume.from_bytes(content)
    assert np.array_equal(volume.voxels[0], segmentation.labels)
    assert volume.affine == pytest.approx(segmentation.volume.affine)
    assert volume.source == (Path(f"scan{suffix}"),)


def test_each_channel_may_be_a_file_of_its_own() -> None:
    content = phantom().to_bytes()
    assert Volume.from_bytes(content, content).voxels.shape == (2, 12, 10, 8)


def test_a_zip_of_a_series_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from support.scans.ct_series import write_ct_series

    from segmaformer.runtime.scans.formats import read_scan

    folder = write_ct_series(tmp_path / "ct")
    members = {f"../../{path.name}": path.read_bytes() for path in folder.iterdir()}
    volume = Volume.from_bytes(zipped(members))
    assert np.array_equal(volume.voxels, read_scan([folder]).voxels)


def test_an_error_does_not_tell_the_folder() -> None:
    with pytest.raises(InputError, match=r"^scan\.nrrd"):
        Volume.from_bytes(b"NRRD0004\nno header\n\n")
    with pytest.raises(OSError, match="scan") as caught, kept_as_files([io.BytesIO(b"x")]) as files:
        (files[0].parent / "scan2" / "x").read_bytes()
    assert caught.value.filename == "scan2/x"


def test_a_header_reaches_no_other_file() -> None:
    header = (
        b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
        b"ElementDataFile = /etc/passwd\n"
    )
    with pytest.raises(InputError, match="outside its own folder"):
        Volume.from_bytes(header)


def test_the_files_are_private_and_gone_afterwards() -> None:
    with kept_as_files([io.BytesIO(phantom().to_bytes())]) as files:
        assert files[0].parent.stat().st_mode & 0o077 == 0
    assert not files[0].parent.exists()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def unpacked(content: bytes, folder: Path) -> list[bytes]:
    folder.mkdir()
    unpack_images(io.BytesIO(content), folder, most_bytes=MOST_BYTES)
    assert all(path.is_file() and not path.is_symlink() for path in folder.iterdir())
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(
    "name", ["a", "../a", "/etc/a", "a/../../a", "..\\a", "a" * 4000, "C:/a", "\u202ea"]
)
def test_names_in_a_zip_are_not_used(tmp_path: Path, name: str) -> None:
    assert unpacked(zipped({name: b"1", "b/": b"", "b/c": b"2"}), tmp_path / "in") == [b"1", b"2"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_link_in_a_zip_is_a_file(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert unpacked(content.getvalue(), tmp_path / "in") == [b"/etc/passwd"]


def understated(content: bytes) -> bytes:
    """State a size of one byte for every member in the list of members."""
    changed = bytearray(content)
    at = -1
    while (at := changed.find(b"PK\x01\x02", at + 1)) >= 0:
        struct.pack_into("<I", changed, at + 24, 1)
    return bytes(changed)


def with_end(content: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, len(changed) - 22 + offset, value)
    return bytes(changed)


def encrypted(content: bytes) -> bytes:
    changed = bytearray(content)
    struct.pack_into("<H", changed, changed.find(b"PK\x01\x02") + 8, 1)
    return bytes(changed)


PLAIN = zipped({"a": bytes(500)})


@pytest.mark.parametrize(
    ("content", "kind", "part"),
    [
        (zipped({"a": bytes(MOST_BYTES + 1)}), TooLargeError, "unpacks to more"),
        (zipped({str(n): bytes(300) for n in range(4)}), TooLargeError, "unpacks to more"),
        (with_end(PLAIN, 12, "<I", 1 << 28), TooLargeError, "more than 65534 members"),
        (PLAIN[:-22] + b"PK\x06\x07" + bytes(16) + PLAIN[-22:], TooLargeError, "4 GiB"),
        (understated(zipped({"a": bytes(5000)})), InputError, "cannot be unpacked"),
        (encrypted(PLAIN), InputError, "is encrypted"),
        (zipped({"a": b"1"}, zipfile.ZIP_LZMA), InputError, "another method than deflate"),
        (zipped({"a": b"1"}, zipfile.ZIP_BZIP2), InputError, "another method than deflate"),
        (PLAIN[:-30], InputError, "cut off"),
        (PLAIN[:-5], InputError, "cut off"),
        (PLAIN[:40] + bytes([PLAIN[40] ^ 255]) + PLAIN[41:], InputError, "cannot be unpacked"),
    ],
)
def test_a_zip_beyond_its_bounds_is_refused(
    tmp_path: Path, content: bytes, kind: type[InputError], part: str
) -> None:
    with pytest.raises(kind, match=part):
        unpacked(content, tmp_path / "in")


@pytest.mark.parametrize("make", [lambda: {}, lambda: {"a.nii.gz": phantom().to_bytes()}])
def test_a_zip_without_images_is_refused(make: Callable[[], dict[str, bytes]]) -> None:
    with pytest.raises(InputError, match="the zip holds no DICOM image"):
        Volume.from_bytes(zipped(make()))


def test_nothing_is_no_scan() -> None:
    with pytest.raises(ValueError, match="give a sequence"):
        Volume.from_bytes()


def test_an_ending_of_no_format_is_refused() -> None:
    with pytest.raises(ValueError, match="must end in"):
        phantom().to_bytes(".png")


def test_a_large_label_map_has_room() -> None:
    labels = np.full(phantom().labels.shape, 300, np.uint16)
    content = dataclasses.replace(phantom(), labels=labels).to_bytes(".nrrd")
    assert Volume.from_bytes(content).voxels.max() == 300
