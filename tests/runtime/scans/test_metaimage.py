from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scans.scan_files import LPS, itk_affine, itk_image, peak_memory, ramp

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.metaimage import read_header

FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "0 1 0 -1 0 0 0 0 1",
    "Offset": "10 20 30",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "PRS",
    "ElementSpacing": "1 2 3",
    "DimSize": "4 5 6",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
LPS_AFFINE = np.array([[0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def header_bytes(**changes: str | None) -> bytes:
    """FIELDS, some changed or, where None, left out; the data file stays the last."""
    fields = {**FIELDS, **changes}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "\n".join([*lines, ""]).encode()


def write(path: Path, data: bytes = ramp().tobytes("F"), **changes: Any) -> Path:
    path.write_bytes(header_bytes(**changes) + data)
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
        ({"ObjectType": None}, ramp().tobytes("F")),
        ({"BinaryData": None}, ramp().tobytes("F")),
        ({"BinaryDataByteOrderMSB": None}, ramp().tobytes("F")),
        ({"BinaryDataByteOrderMSB": "true"}, ramp(">i2").tobytes("F")),
        (
            {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "1"},
            ramp(">i2").tobytes("F"),
        ),
        ({"ElementType": "MET_DOUBLE"}, ramp("f8").tobytes("F")),
        ({"ElementType": "MET_LONG"}, ramp("i4").tobytes("F")),
        ({"AnatomicalOrientation": None}, ramp().tobytes("F")),
        ({"AnatomicalOrientation": "RAI"}, ramp().tobytes("F")),
        ({"TransformMatrix": None, "Rotation": FIELDS["TransformMatrix"]}, ramp().tobytes("F")),
        ({"TransformMatrix": None, "Orientation": FIELDS["TransformMatrix"]}, ramp().tobytes("F")),
        ({"Offset": None, "Position": "10 20 30"}, ramp().tobytes("F")),
        ({"Offset": None, "Origin": "1e1 20.0 30"}, ramp().tobytes("F")),
        ({"DistanceUnits": "mm"}, ramp().tobytes("F")),
        ({"ElementNumberOfChannels": "1"}, ramp().tobytes("F")),
        ({"ElementToIntensityFunctionSlope": "1.0"}, ramp().tobytes("F")),
        ({"Modality": "MET_MOD_CT", "Comment": "DimSize = 1 1 1"}, ramp().tobytes("F")),
        ({"0008|0005": "ISO_IR 100"}, ramp().tobytes("F")),
        ({"HeaderSize": "-1"}, bytes(33) + ramp().tobytes("F")),
        (
            {"HeaderSize": "400"},
            bytes(400 - len(header_bytes(HeaderSize="400"))) + ramp().tobytes("F"),
        ),
        ({"ElementDataFile": "Local"}, ramp().tobytes("F")),
        ({}, ramp().tobytes("F") + b"trailer"),
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
    data = zlib.compress(ramp().tobytes("F"))
    path = write(tmp_path / "scan.mha", data, CompressedData="True", CompressedDataSize=size)
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b" = ", b"="), (b" = ", b" : ")])
def test_line_ends_and_separators_of_all_kinds_are_read(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    path = tmp_path / "scan.mha"
    path.write_bytes(header_bytes().replace(old, new) + ramp().tobytes("F"))
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


def test_a_missing_offset_is_zero(tmp_path: Path) -> None:
    affine = read_scan([write(tmp_path / "scan.mha", Offset=None)]).affine
    assert affine[:3, 3].tolist() == [0, 0, 0]


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
    content = ramp().tobytes("F")
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


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ObjectType": "Tube"}, "describes a 'Tube'; expected an Image"),
        ({"NDims": "2", "DimSize": "20 6"}, "is 2-D; expected a 3-D scan"),
        (
            {"NDims": "4", "DimSize": "4 5 6 2", "ElementNumberOfChannels": "2"},
            "is 4-D, .* Split it",
        ),
        ({"NDims": "5", "DimSize": "4 5 6 2 3"}, r"is 5-D, with shape \[4, 5, 6, 2, 3\] and 1"),
        ({"NDims": "11"}, "is 11-D; expected a 3-D scan"),
        ({"NDims": "x"}, "'NDims' as 'x'"),
        ({"NDims": None}, "has no 'NDims'"),
        ({"DimSize": None}, "has no 'DimSize'"),
        ({"DimSize": "4 5"}, "'DimSize' as '4 5'; expected whole numbers, 3"),
        ({"DimSize": "4 5 1e1"}, "expected whole numbers"),
        ({"DimSize": "4 5 0"}, r"impossible shape \[4, 5, 0\]"),
        ({"DimSize": "4 5 -6"}, r"impossible shape \[4, 5, -6\]"),
        ({"DimSize": "4 5 7"}, "promises"),
        ({"DimSize": "1000000 1000000 1000000"}, "promises 2000000000000000"),
        ({"DimSize": "1000000 1000000 1000000", "CompressedData": "True"}, "promises 20000000"),
        ({"DimSize": "9" * 5000 + " 5 6"}, "expected whole numbers"),
        ({"ElementNumberOfChannels": "1000000000"}, "promises 240000000"),
        ({"ElementNumberOfChannels": "0"}, "impossible shape"),
        ({"ElementType": None}, "has no 'ElementType'"),
        ({"ElementType": "MET_SHORT_ARRAY"}, "holds 'MET_SHORT_ARRAY' voxels"),
        ({"ElementType": "MET_FLOAT_MATRIX"}, "holds 'MET_FLOAT_MATRIX' voxels"),
        ({"ElementType": "MET_STRING"}, "expected one real number for each voxel"),
        ({"BinaryData": "False"}, "holds its voxels as text"),
        ({"BinaryData": "perhaps"}, "'BinaryData' as 'perhaps'; expected True or False"),
        ({"CompressedData": ""}, "'CompressedData' as ''"),
        ({"ElementToIntensityFunctionSlope": "2"}, "Slope = 2, which readers of MetaImage"),
        ({"ElementToIntensityFunctionOffset": "x"}, "Offset = x, which readers"),
        ({"HeaderSize": "-2"}, "skips -2 bytes"),
        ({"HeaderSize": "-1", "CompressedData": "True"}, "skips -1 bytes"),
        ({"HeaderSize": "-1", "DimSize": "40 50 60"}, "promises"),
        ({"HeaderSize": "1000"}, "promises"),
        ({"ElementDataFile": ""}, "no such file beside it"),
        ({"ElementDataFile": "absent.raw"}, "no such file beside it"),
        ({"ElementDataFile": "LIST"}, "spread over several files"),
        ({"ElementDataFile": "LIST 2D"}, "spread over several files"),
        ({"ElementDataFile": "slice%03d.raw 1 6 1"}, "spread over several files"),
        ({"ElementDataFile": "../scan.raw"}, "outside its own folder"),
        ({"ElementDataFile": "/etc/hostname"}, "outside its own folder"),
        ({"ElementDataFile": None}, "has no 'ElementDataFile' at its end; the file was cut off"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "scan.mha", **changes)
    with peak_memory() as peak, pytest.raises(InputError, match=complaint) as refusal:
        read_header(path)
    assert peak() < 1_000_000
    assert str(path) in str(refusal.value)
    assert not isinstance(refusal.value, GeometryError)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {
                "NDims": "4",
                "DimSize": "4 5 6 1",
                "TransformMatrix": "1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1",
                "ElementSpacing": "1 1 1 1",
            },
            "runs through space and a fourth dimension",
        ),
        ({"TransformMatrix": "1 0 0 1"}, "'TransformMatrix' as '1 0 0 1'; .* 9 of them"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 nan"}, "expected finite numbers"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "voxel size is 1 x 2 x 0 mm"),
        ({"TransformMatrix": "1 0 0 0 1 0 1 1 0"}, "singular"),
        ({"ElementSpacing": None}, "has no ElementSpacing, so the size of a voxel is unknown"),
        ({"ElementSpacing": "1 2"}, "'ElementSpacing' as '1 2'"),
        ({"ElementSpacing": "1 2 0"}, r"voxel size \[1\.0, 2\.0, 0\.0\]; expected three numbers"),
        ({"ElementSpacing": "1 2 -3"}, "voxel size .* above zero"),
        ({"ElementSpacing": "1 2 inf"}, "expected finite numbers"),
        ({"Offset": "1 2 x"}, "'Offset' as '1 2 x'"),
        ({"Offset": "1 2 nan"}, "expected finite numbers"),
        ({"DistanceUnits": "cm"}, "distances are in 'cm'; expected mm"),
    ],
)
def test_impossible_positions_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "scan.mha", **changes)
    with pytest.raises(GeometryError, match=complaint) as refusal:
        read_header(path)
    assert str(path) in str(refusal.value)


def test_a_field_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    path.write_bytes(b"Offset = 0 0 0\n" + header_bytes() + ramp().tobytes("F"))
    with pytest.raises(InputError, match="gives 'Offset' twice"):
        read_header(path)
    path.write_bytes(b"Offset = 10 20 30\n" + header_bytes() + ramp().tobytes("F"))
    assert read_header(path).shape == (4, 5, 6)


def test_an_endless_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    for filling in (b"Comment = x\n" * 200_000, b"Comment = " + b" " * 3_000_000):
        path.write_bytes(b"NDims = 3\n" + filling + header_bytes())
        with pytest.raises(InputError, match="no header ends within 1048576 bytes"):
            read_header(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 330), replacement=st.binary(min_size=1, max_size=8))
def test_an_altered_header_is_read_or_refused_and_nothing_else(
    tmp_path: Path, position: int, replacement: bytes
) -> None:
    path = write(tmp_path / "scan.mha")
    content = bytearray(path.read_bytes())
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    try:
        volume = read_scan([path])
    except InputError:
        return
    assert np.isfinite(volume.affine).all()
    assert volume.voxels.size * np.dtype("u1").itemsize <= len(content)
