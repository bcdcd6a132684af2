from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans import formats
from segmaformer.runtime.scans.byte_source import ByteSource
from segmaformer.runtime.scans.nifti_header import read_header


def header_of(kind: Any = nibabel.Nifti1Header, **fields: Any) -> Any:
    """Make a header of a 4x5x6 int16 scan of 1x2x3 mm, with `fields` set unchecked."""
    header = kind()
    header.set_data_shape((4, 5, 6))
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([1, 2, 3, 1]), code=2)
    header["pixdim"][1:4] = (1, 2, 3)
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    for name, value in fields.items():
        header[name] = value
    return header


def write(path: Path, header: Any, data_bytes: int = 240) -> Path:
    content = header.binaryblock + bytes(4 + data_bytes)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "gzip_without_suffix"])
def test_both_versions_in_both_byte_orders(
    tmp_path: Path, kind: Any, endianness: str, name: str
) -> None:
    path = write(tmp_path / name, header_of(kind).as_byteswapped(endianness))
    if name == "gzip_without_suffix":
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    file = read_header(path)
    assert file.shape == (4, 5, 6)
    assert file.dtype == np.dtype(np.int16).newbyteorder(endianness)
    packed = name != "scan.nii"
    offset = kind.single_vox_offset
    assert file.data == ByteSource(path, 0 if packed else offset, packed, offset if packed else 0)
    assert (file.slope, file.intercept) == (1.0, 0.0)
    assert np.array_equal(file.affine, np.diag([1, 2, 3, 1]))
    assert type(file.header) is kind


@pytest.mark.parametrize(
    "content",
    [
        b"not an image at all",
        bytes(600),
        bytes(128) + b"DICM" + bytes(500),
        header_of().binaryblock[:347],
        header_of().binaryblock[:344] + bytes(500),
        (348).to_bytes(4, "little") + bytes(700),
        gzip.compress(b"packed text", mtime=0),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a NIfTI file"):
        read_header(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])
def test_half_of_a_pair_is_recognised(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "scan.hdr", header_of(kind, magic=kind.pair_magic))
    with pytest.raises(InputError, match=r"Convert the pair to one \.nii or \.nii\.gz file"):
        formats.read_header(path)
    path = path.rename(tmp_path / "scan.img")
    path.write_bytes(bytes(240))
    with pytest.raises(InputError, match=r"Convert the pair to one \.nii or \.nii\.gz file"):
        formats.read_header(path)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dim": [3, 4, 0, 6, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [3, 4, -5, 6, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [0, 4, 5, 6, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [9, 4, 5, 6, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [2, 4, 5, 1, 1, 1, 1, 1]}, "is 2-D.*expected a 3-D scan"),
        (
            {"dim": [4, 4, 5, 6, 2, 1, 1, 1], "pixdim": [1, 1, 1, 1, 2.5, 0, 0, 0]},
            r"is 4-D, .* a time series by its header, .* step of 2.5 .*one file for each channel",
        ),
        ({"dim": [5, 4, 5, 6, 2, 3, 1, 1]}, "is 5-D.*one file for each channel"),
        ({"dim": [4, 4, 5, 6, 2, 1, 1, 1], "intent_code": 2001}, "holds a time series"),
        ({"dim": [5, 4, 5, 6, 1, 3, 1, 1], "intent_code": 1006}, "holds displacements"),
        ({"dim": [5, 4, 5, 6, 1, 3, 1, 1], "intent_code": 2003}, "holds RGB colours"),
        ({"datatype": 32}, "complex64 voxels"),
        ({"datatype": 1792}, "complex128 voxels"),
        ({"datatype": 128}, "RGB voxels"),
        ({"datatype": 2304}, "RGBA voxels"),
        ({"datatype": 1}, "binary voxels"),
        ({"datatype": 77}, "data type 77 does not exist"),
        ({"vox_offset": 0}, "start at byte 0"),
        ({"vox_offset": 348}, "start at byte 348"),
        ({"vox_offset": np.nan}, "start at byte nan"),
        ({"vox_offset": np.inf}, "start at byte inf"),
        ({"vox_offset": 1e9}, "promises 1000000240 bytes"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "promises 70362301923678 bytes"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "scl_inter is not finite"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(
    tmp_path: Path, fields: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "scan.nii", header_of(**fields))
    with pytest.raises(InputError, match=complaint) as refusal:
        read_header(path)
    assert str(path) in str(refusal.value)
    assert not isinstance(refusal.value, GeometryError)


def test_a_compressed_file_cannot_promise_more_than_deflate_allows(tmp_path: Path) -> None:
    header = header_of(dim=[3, 2000, 2000, 2000, 1, 1, 1, 1])
    path = write(tmp_path / "scan.nii.gz", header, data_bytes=100_000)
    with pytest.raises(InputError, match="promises 16000000352 bytes"):
        read_header(path)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"pixdim": [1, 1, 0, 3, 0, 0, 0, 0]}, "voxel size"),
        ({"pixdim": [1, 1, np.nan, 3, 0, 0, 0, 0]}, "voxel size"),
        ({"srow_x": [0, 0, 0, 0]}, "voxel size is 0 x 2 x 3"),
        ({"srow_x": [0, 2, 0, 0]}, "voxel size is 0 x"),
        ({"srow_y": [1, 0, 0, 0]}, "voxel size is"),
        ({"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0]}, "singular"),
        ({"srow_z": [0, 0, np.nan, 0]}, "not a finite transform"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 2.0}, "position cannot be used"),
    ],
)
def test_impossible_positions_are_refused(
    tmp_path: Path, fields: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "scan.nii", header_of(**fields))
    with pytest.raises(GeometryError, match=complaint) as refusal:
        read_header(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(("units", "mm"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (10, 1.0)])
def test_lengths_are_converted_to_millimetres(tmp_path: Path, units: int, mm: float) -> None:
    file = read_header(write(tmp_path / "scan.nii", header_of(xyzt_units=units)))
    np.testing.assert_allclose(file.affine, np.diag([mm, 2 * mm, 3 * mm, 1]))


def test_sform_goes_before_qform_and_both_before_neither(tmp_path: Path) -> None:
    header = header_of()
    header.set_qform(np.diag([1, -2, -3, 1]), code=1)
    both = read_header(write(tmp_path / "both.nii", header))
    header["sform_code"] = 0
    qform = read_header(write(tmp_path / "qform.nii", header))
    header["qform_code"] = 0
    neither = read_header(write(tmp_path / "neither.nii", header))
    assert np.diag(both.affine).tolist() == [1, 2, 3, 1]
    np.testing.assert_allclose(np.diag(qform.affine), [1, -2, -3, 1], atol=1e-6)
    assert np.array_equal(neither.affine, nibabel.load(tmp_path / "neither.nii").affine)


def test_a_qfac_of_zero_means_one(tmp_path: Path) -> None:
    header = header_of(sform_code=0, qform_code=1, pixdim=[0, 1, 2, 3, 0, 0, 0, 0])
    file = read_header(write(tmp_path / "scan.nii", header))
    np.testing.assert_allclose(np.diag(file.affine), [1, 2, 3, 1])


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_no_slope_means_no_scaling(tmp_path: Path, slope: float) -> None:
    header = header_of(scl_slope=slope, scl_inter=5)
    file = read_header(write(tmp_path / "scan.nii", header))
    assert (file.slope, file.intercept) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("fields", "remarks"),
    [
        ({"scl_slope": 0, "scl_inter": 0}, []),
        ({"scl_slope": np.nan, "scl_inter": np.nan}, []),
        ({"scl_slope": np.inf, "scl_inter": 0}, []),
        ({"scl_slope": 1e-10, "scl_inter": 5}, []),
        ({"scl_slope": 0, "scl_inter": -1024}, ["scl_inter -1024; intensities are not scaled"]),
        ({"scl_slope": np.nan, "scl_inter": 5}, ["scl_slope is nan"]),
        ({"scl_slope": 1e-17, "scl_inter": 0}, ["intensities are multiplied by 1e-17"]),
        ({"pixdim": [1, 1, -2, 3, 0, 0, 0, 0]}, [r"voxel size \[1.0, -2.0, 3.0\]"]),
    ],
)
def test_numbers_that_programs_read_in_two_ways_are_remarked(
    tmp_path: Path, fields: dict[str, Any], remarks: list[str]
) -> None:
    found = read_header(write(tmp_path / "scan.nii", header_of(**fields))).remarks
    assert len(found) == len(remarks)
    for finding, expected in zip(found, remarks, strict=True):
        assert re.search(expected, finding.what)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.integers(0, 347),
    replacement=st.binary(min_size=1, max_size=8),
    endianness=st.sampled_from("<>"),
)
def test_an_altered_header_is_read_or_refused_and_nothing_else(
    tmp_path: Path, position: int, replacement: bytes, endianness: str
) -> None:
    path = write(tmp_path / "scan.nii", header_of().as_byteswapped(endianness))
    content = bytearray(path.read_bytes())
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    try:
        file = read_header(path)
    except InputError:
        return
    assert file.data.start + np.prod(file.shape) * file.dtype.itemsize <= len(content)
    assert np.isfinite(file.affine).all()
