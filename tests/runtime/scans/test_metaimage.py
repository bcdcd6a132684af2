from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from support.scans.scan_files import LPS, itk_affine, itk_image, ramp
from support.scans.text_scans import METAIMAGE_FIELDS, VOXELS, metaimage_bytes

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.metaimage import read_header

LPS_AFFINE = np.array([[0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def write(path: Path, data: bytes = VOXELS, **changes: Any) -> Path:
    path.write_bytes(metaimage_bytes(data, **changes))
    return path


def test_the_plain_file_is_read_as_itk_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.mha")
    volume = read_scan([path])
    assert np.array_equal(volume.voxels[0], ramp())
    assert np.array_equal(volume.affine, LPS @ LPS_AFFINE)
    assert volume.axis_codes == "PRS"
    np.testing.assert_allclose(volume.affine, itk_affine(SimpleITK.ReadImage(str(path))))
    assert not np.signbit(volume.affine[volume.affine == 0]).any()


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"ObjectType": None}, VOXELS),
        ({"BinaryData": None}, VOXELS),
        ({"BinaryDataByteOrderMSB": None}, VOXELS),
        ({"BinaryDataByteOrderMSB": "true"}, ramp(">i2").tobytes("F")),
        (
            {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "1"},
            ramp(">i2").tobytes("F"),
        ),
        ({"ElementType": "MET_DOUBLE"}, ramp("f8").tobytes("F")),
        ({"ElementType": "MET_LONG"}, ramp("i4").tobytes("F")),
        ({"AnatomicalOrientation": None}, VOXELS),
        ({"AnatomicalOrientation": "RAI"}, VOXELS),
        ({"TransformMatrix": None, "Rotation": METAIMAGE_FIELDS["TransformMatrix"]}, VOXELS),
        ({"TransformMatrix": None, "Orientation": METAIMAGE_FIELDS["TransformMatrix"]}, VOXELS),
        ({"Offset": None, "Position": "10 20 30"}, VOXELS),
        ({"Offset": None, "Origin": "1e1 20.0 30"}, VOXELS),
        ({"DistanceUnits": "mm"}, VOXELS),
        ({"ElementNumberOfChannels": "1"}, VOXELS),
        ({"ElementToIntensityFunctionSlope": "1.0"}, VOXELS),
        ({"Modality": "MET_MOD_CT", "Comment": "DimSize = 1 1 1"}, VOXELS),
        ({"0008|0005": "ISO_IR 100"}, VOXELS),
        ({"HeaderSize": "-1"}, bytes(33) + VOXELS),
        (
            {"HeaderSize": "400"},
            bytes(400 - len(metaimage_bytes(b"", HeaderSize="400"))) + VOXELS,
        ),
        ({"ElementDataFile": "Local"}, VOXELS),
        ({}, VOXELS + b"trailer"),
    ],
)
def test_what_the_format_allows_is_read_as_itk_reads_it(
    tmp_path: Path, changes: dict[str, Any], data: bytes
) -> None:
    path = write(tmp_path / "scan.mha", data, **changes)
    volume = read_scan([path])
    assert np.array_equal(volume.voxels[0], ramp())
    assert np.array_equal(volume.affine, LPS @ LPS_AFFINE)
    image = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, ramp())
    np.testing.assert_allclose(itk_affine(image), volume.affine)


@pytest.mark.parametrize("size", [None, "1"])
def test_compressed_voxels_need_no_true_size_in_the_header(
    tmp_path: Path, size: str | None
) -> None:
    data = zlib.compress(VOXELS)
    path = write(tmp_path / "scan.mha", data, CompressedData="True", CompressedDataSize=size)
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b" = ", b"="), (b" = ", b" : ")])
def test_line_ends_and_separators_of_all_kinds_are_read(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    path = tmp_path / "scan.mha"
    path.write_bytes(metaimage_bytes(b"").replace(old, new) + VOXELS)
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize(
    ("name", "before", "changes"),
    [
        ("scan.raw", b"", {}),
        ("scan.zraw", b"", {"CompressedData": "True"}),
        ("below/scan.raw", b"", {}),
        ("a scan.raw", b"", {}),
        ("listing.raw", b"", {}),
        ("scan.raw", b"head", {"HeaderSize": "4"}),
        ("scan.raw", b"head", {"HeaderSize": "-1"}),
    ],
)
def test_voxels_may_be_in_a_file_beside_the_header(
    tmp_path: Path, name: str, before: bytes, changes: dict[str, str]
) -> None:
    content = VOXELS
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(
        before + (zlib.compress(content) if changes and not before else content)
    )
    path = write(tmp_path / "scan.mhd", b"", ElementDataFile=name, **changes)
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


def test_what_itk_adds_from_dicom_is_passed_over(tmp_path: Path) -> None:
    image = itk_image(ramp(), np.eye(4))
    image.SetMetaData("0010|0010", "Name^Of")
    image.SetMetaData("note", "two\nlines: DimSize = 9 9 9")
    SimpleITK.WriteImage(image, str(tmp_path / "scan.mha"))
    assert np.array_equal(read_scan([tmp_path / "scan.mha"]).voxels[0], ramp())


def test_a_field_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    path.write_bytes(b"Offset = 0 0 0\n" + metaimage_bytes())
    with pytest.raises(InputError, match="gives 'Offset' twice"):
        read_header(path)
    path.write_bytes(b"Offset = 10 20 30\n" + metaimage_bytes())
    assert read_header(path).shape == (4, 5, 6)


def test_an_endless_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    for filling in (b"Comment = x\n" * 200_000, b"Comment = " + b" " * 3_000_000):
        path.write_bytes(b"NDims = 3\n" + filling + metaimage_bytes(b""))
        with pytest.raises(InputError, match="no header ends within 1048576 bytes"):
            read_header(path)
