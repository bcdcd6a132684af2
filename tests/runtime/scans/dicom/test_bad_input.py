"""Damaged, impossible and hostile DICOM: refused with the cause, before much is allocated."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from support.scans.dicom_files import Series, save
from support.scans.scan_files import peak_memory

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.listing import list_series
from segmaformer.runtime.scans.dicom.scan import read_series
from segmaformer.runtime.scans.formats import read_scan

VOXELS = (np.arange(40 * 36 * 5) % 4001).reshape(40, 36, 5).astype("u2")
Change = Callable[[Dataset, int], None]


def at(index: int, **values: Any) -> Change:
    """Set attributes of one slice; None removes one."""

    def change(dataset: Dataset, number: int) -> None:
        for keyword, value in values.items():
            if number != index:
                continue
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def every(**values: Any) -> Change:
    return lambda dataset, index: at(index, **values)(dataset, index)


IMPOSSIBLE = {
    "no position": (at(2, ImagePositionPatient=None), "it has no ImagePositionPatient"),
    "no orientation": (every(ImageOrientationPatient=None), "it has no ImageOrientationPatient"),
    "no spacing": (every(PixelSpacing=None), "it has no PixelSpacing"),
    "zero cosines": (every(ImageOrientationPatient=[0] * 6), "lengths 0 and 0; expected 1"),
    "long cosines": (
        every(ImageOrientationPatient=[1.1, 0, 0, 0, 1, 0]),
        "lengths 1.1 and 1; expected 1",
    ),
    "slanted cosines": (
        every(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]),
        "not at right angles",
    ),
    "zero spacing": (every(PixelSpacing=[0, 1]), "its PixelSpacing is 0 and 1 mm"),
    "negative spacing": (every(PixelSpacing=[-1, 1]), "its PixelSpacing is -1 and 1 mm"),
    "far away": (at(4, ImagePositionPatient=["1e308", 0, 0]), "more than 100 m away"),
    "one position": (at(3, ImagePositionPatient=[-20, 30, 105]), "several images"),
    "askew": (
        lambda dataset, index: at(index, ImagePositionPatient=[20 * index, 0, index])(
            dataset, index
        ),
        "degrees off their normal",
    ),
    "another spacing": (at(4, PixelSpacing=[0.75, 0.6]), "do not fit"),
    "another spacing of half": (
        lambda dataset, index: at(index, PixelSpacing=[1 + index // 3, 1])(dataset, index),
        "2 usable series",
    ),
    "two frames of reference": (
        lambda dataset, index: at(index, FrameOfReferenceUID=f"1.2.{index // 3}")(dataset, index),
        "2 usable series",
    ),
    "two orientations": (
        lambda dataset, index: at(
            index, ImageOrientationPatient=[1, 0, 0, 0, 1 - index // 3, index // 3]
        )(dataset, index),
        "do not fit",
    ),
    "slashes in a UID": (every(SeriesInstanceUID="1.2/../../3"), "SeriesInstanceUID is no UID"),
    "no rows": (every(Rows=None), "it has no Rows"),
    "zero rows": (every(Rows=0), "0 rows"),
    "rows beyond the data": (every(Rows=65535, Columns=65535), "cut off or damaged"),
    "a billion frames": (every(NumberOfFrames=1_000_000_000), "NumberOfFrames is no number from 1"),
    "frames without a place": (every(NumberOfFrames=4), "does not say where each"),
    "twelve bits allocated": (every(BitsAllocated=12), "expected 8, 16 or 32"),
    "bits beyond those allocated": (every(BitsStored=17), "which cannot be"),
    "colour": (every(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "in colour"),
    "a palette": (every(PhotometricInterpretation="PALETTE COLOR"), "in colour"),
    "no pixels": (at(2, PixelData=None), "a single|not equal|do not fit|no image"),
    "no slope": (every(RescaleSlope=0), "give no intensities"),
    "an infinite intercept": (every(RescaleIntercept="1e400"), "not 1 finite numbers"),
    "no sign": (every(PixelRepresentation=None), "it has no PixelRepresentation"),
    "a sign of another kind": (every(PixelRepresentation=256), "PixelRepresentation is 256"),
    "no stored bits": (every(BitsStored=None), "it has no BitsStored"),
    "a scaling of some": (at(3, RescaleIntercept=None), "1 of 5 images state no RescaleIntercept"),
    "one image more than stated": (
        lambda dataset, index: at(index, PixelData=2 * dataset.PixelData)(dataset, index),
        "promises 2880 bytes of pixels, and it holds 5760",
    ),
    "a localizer": (every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer"),
    "a projection": (every(ImageType=["DERIVED", "SECONDARY", "MIP"]), "a projection"),
    "a table of intensities": (every(ModalityLUTSequence=[Dataset()]), "ModalityLUTSequence"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_headers_are_refused(name: str, tmp_path: Path) -> None:
    change, message = IMPOSSIBLE[name]
    folder = Series(VOXELS, change=change).write(tmp_path / "series")
    with peak_memory() as peak, pytest.raises(InputError, match=message):
        read_series(folder)
    assert peak() < 20 << 20


def test_a_series_without_its_last_pixels_is_refused(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    path = folder / "IM0004"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="IM0004: it is cut off or damaged: its header promises"):
        read_series(folder)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="IM0004: it is cut off or damaged"):
        read_series(folder)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    (folder / "IM0002").unlink()
    with pytest.raises(InputError, match=r"gaps between 4 images are not equal: from 2\.5 to 5 mm"):
        read_series(folder)


def test_the_same_file_twice_is_named(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    (folder / "copy").write_bytes((folder / "IM0001").read_bytes())
    with pytest.raises(InputError, match="IM0001 and copy are the same image"):
        read_series(folder)


def with_frames(series: Series, folder: Path, syntax: UID, frame: bytes) -> Path:
    """Write a series whose third slice has another compressed image."""
    folder.mkdir()
    for index in range(series.voxels.shape[2]):
        dataset = series.slice(index)
        path = save(dataset, folder / f"{index}", syntax)
        if index == 2:
            dataset.PixelData = encapsulate([frame])
            dataset.save_as(path, enforce_file_format=True)
    return folder


def compressed(syntax: UID, columns: int, rows: int) -> bytes:
    from pydicom.encaps import generate_frames

    dataset = Series(np.ones((columns, rows, 1), "u2")).slice(0)
    dataset.compress(syntax)
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda each: each.name)
def test_an_image_of_another_size_is_refused(syntax: UID, tmp_path: Path) -> None:
    frame = compressed(syntax, 80, 90)
    folder = with_frames(Series(VOXELS), tmp_path / "series", syntax, frame)
    message = "2: an image is compressed as 90 rows, 80 columns and 1 components; its header says"
    with pytest.raises(InputError, match=message):
        read_series(folder)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("frame", [bytes(2), b"no image at all, but a text" * 9, None])
def test_damaged_images_are_refused(syntax: UID, frame: bytes | None, tmp_path: Path) -> None:
    if frame is None:
        frame = compressed(syntax, 40, 36)[:-9]
    folder = with_frames(Series(VOXELS), tmp_path / "series", syntax, frame)
    with pytest.raises(InputError, match=r"2: (its|an) (image|RLE segment)"):
        read_series(folder)


@pytest.mark.parametrize("place", ["header", "trailer"])
def test_a_deflated_bomb_is_not_unpacked(place: str, tmp_path: Path) -> None:
    folder = Series(VOXELS, syntax=DeflatedExplicitVRLittleEndian).write(tmp_path / "series")
    path = folder / "IM0002"
    content = path.read_bytes()
    data_set_at = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    private = b"\x09\0\x01\x10OB\0\0" + (1 << 30).to_bytes(4, "little")
    before = private if place == "header" else zlib.decompress(content[data_set_at:], -15)
    packed = [deflater.compress(before), *(deflater.compress(bytes(1 << 24)) for _ in range(32))]
    path.write_bytes(content[:data_set_at] + b"".join(packed) + deflater.flush())
    with peak_memory() as peak, pytest.raises(InputError, match="IM0002"):
        read_series(folder)
    assert peak() < 200 << 20


def element(tag: bytes, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    if vr in (b"SQ", b"OB", b"UN"):
        return tag + vr + b"\0\0" + size.to_bytes(4, "little") + value
    return tag + vr + size.to_bytes(2, "little") + value


@pytest.mark.parametrize(
    "inside",
    [
        element(b"\x08\0\x15\x11", b"SQ", b"", 0xFFFFFFFF) * 40_000,
        (element(b"\x08\0\x15\x11", b"SQ", b"", 0xFFFFFFFF) + b"\xfe\xff\0\xe0" + b"\xff" * 4)
        * 5_000,
        element(b"\x09\0\x01\x10", b"UN", b"\xfe\xff\0\xe0" + b"\xff" * 4, 0xFFFFFFFF),
        element(b"\x09\0\x01\x10", b"UN", b"", 0xFFFFFFFE),
    ],
    ids=["sequences", "nested sequences", "an open item", "an endless value"],
)
def test_hostile_headers_end_the_reading_of_a_file(inside: bytes, tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    path = folder / "IM0002"
    content = path.read_bytes()
    data_set_at = 144 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[:data_set_at] + inside + content[data_set_at:])
    with pytest.raises(InputError):
        read_series(folder)


def test_a_directory_of_files_is_not_followed(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    content = (folder / "IM0002").read_bytes()
    index = content.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0", 1)
    (folder / "DICOMDIR").write_bytes(index)
    assert read_series(folder).shape == VOXELS.shape
    with pytest.raises(InputError, match="DICOMDIR is an index of other files"):
        read_scan([folder / "DICOMDIR"])


def test_what_is_no_dicom_is_passed_over(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    (folder / "notes.txt").write_text("DICM")
    (folder / "archive.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / ".hidden").write_bytes((folder / "IM0002").read_bytes())
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere").symlink_to(folder / "missing")
    (folder / "empty").touch()
    os.mkfifo(folder / "pipe")
    assert read_series(folder).shape == VOXELS.shape


def test_a_link_to_nothing_is_a_lost_image(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    (folder / "IM0004").unlink()
    (folder / "IM0004").symlink_to(tmp_path / "missing")
    with pytest.raises(InputError, match="IM0004: it links to nothing, so an image may be missing"):
        read_series(folder)


@pytest.mark.parametrize("read", [read_series, list_series])
def test_a_folder_that_cannot_be_read_is_named(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    (folder / "more").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"more cannot be read: Permission denied; make it"):
        read(folder)


def test_a_damaged_image_gets_no_advice_to_choose(tmp_path: Path) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    path = folder / "IM0004"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"copy it again from its source$"):
        read_series(folder)


PHASES: dict[str, tuple[Callable[[int, int], dict[str, Any]], str]] = {
    "trigger times": (
        lambda phase, index: {"TriggerTime": 30 * phase + index, "InstanceNumber": 2 * index},
        "--where TriggerTime=0..4, or --where TriggerTime=30..34",
    ),
    "nothing": (
        lambda phase, index: {"InstanceNumber": index},
        "Put the images of one volume into a folder of their own",
    ),
}


@pytest.mark.parametrize(("attributes", "advice"), PHASES.values(), ids=PHASES)
def test_phases_of_a_series_need_a_choice(
    attributes: Callable[[int, int], dict[str, Any]], advice: str, tmp_path: Path
) -> None:
    for phase in range(2):

        def change(dataset: Dataset, index: int, phase: int = phase) -> None:
            every(**attributes(phase, index))(dataset, index)

        series = Series(VOXELS, change=change, uid="1.2", frame_of_reference="1.3")
        folder = series.write(tmp_path / "series", f"{phase}-{{}}".format)
    with pytest.raises(InputError, match=advice):
        read_series(folder)


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    from segmaformer.runtime.scans.formats import read_header
    from segmaformer.runtime.scans.scan_file import read_volume

    folder = Series(VOXELS).write(tmp_path / "series")
    header = read_header(folder)
    save(Series(VOXELS).slice(1), folder / "IM0001", ExplicitVRLittleEndian)
    with pytest.raises(InputError, match="was replaced or changed while it was read"):
        read_volume([header])


LOST = {
    "empty": ("{}", b"", "it is empty"),
    "of zeros": ("{}", bytes(4096), "it begins with zeros alone"),
    "empty, named as DICOM": ("{}.dcm", b"", "it is empty"),
    "an error page": ("{}.DCM", b"<html>404</html>", "it holds no DICOM"),
    "a number as suffix": ("CT.1.3.{}", b"", "it is empty"),
}


@pytest.mark.parametrize("where", [(), ("Rows=36",)], ids=["all", "where"])
@pytest.mark.parametrize(("name", "content", "reason"), LOST.values(), ids=LOST)
def test_an_end_slice_whose_content_is_lost_is_missed(
    name: str, content: bytes, reason: str, where: tuple[str, ...], tmp_path: Path
) -> None:
    folder = Series(VOXELS).write(tmp_path / "series", lambda index: name.format(index + 1))
    (folder / name.format(1)).write_bytes(content)
    with pytest.raises(InputError, match=f"{name.format(1)}: {reason}"):
        read_series(folder, where=where)


@pytest.mark.parametrize("name", ["LOCKFILE", "notes.txt", "DICOMDIR", "Thumbs.db", "labels.nii"])
@pytest.mark.parametrize("content", [b"", bytes(4096)], ids=["empty", "zeros"])
def test_other_files_beside_a_series_change_nothing(
    name: str, content: bytes, tmp_path: Path
) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    (folder / name).write_bytes(content)
    assert read_series(folder).voxels.shape[-1] == VOXELS.shape[-1]
