"""Headers of NRRD and MetaImage: text that is read in one way, whatever its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scans.scan_files import peak_memory
from support.scans.text_scans import metaimage_bytes, nrrd_bytes

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans import metaimage, nrrd
from segmaformer.runtime.scans.formats import read_scan

Changes = dict[str, Any]
"""Fields of a header; None leaves one out."""


@dataclass(frozen=True)
class Format:
    """A format, with its good file and the field that holds the origin."""

    name: str
    content: Callable[..., bytes]
    read_header: Callable[[Path], Any]
    origin: str

    def write(self, folder: Path, **changes: Any) -> Path:
        path = folder / self.name
        path.write_bytes(self.content(**changes))
        return path


NRRD = Format("scan.nrrd", nrrd_bytes, nrrd.read_header, "space origin")
METAIMAGE = Format("scan.mha", metaimage_bytes, metaimage.read_header, "Offset")
each_format = pytest.mark.parametrize("form", [NRRD, METAIMAGE], ids=["nrrd", "metaimage"])

NRRD_FOUR_AXES = {"dimension": "4", "kinds": "vector domain domain domain"}
NRRD_UNREADABLE: list[tuple[Changes, str]] = [
    ({"dimension": None}, "has no 'dimension'"),
    ({"dimension": "three"}, r"'dimension' as 'three'; expected whole numbers, 1"),
    ({"dimension": "3 3"}, "'dimension' as '3 3'"),
    ({"dimension": "2", "sizes": "20 6"}, "is 2-D; expected a 3-D scan"),
    ({"dimension": "17"}, "is 17-D"),
    ({"dimension": "-3"}, "is -3-D"),
    ({"sizes": None}, "has no 'sizes'"),
    ({"sizes": "4 5"}, "'sizes' as '4 5'; expected whole numbers, 3"),
    ({"sizes": "4 5 6.0"}, "expected whole numbers"),
    ({"sizes": "4 5 1_000"}, "expected whole numbers"),
    ({"sizes": "4 0 6"}, r"impossible shape \[4, 0, 6\]"),
    ({"sizes": "4 -5 6"}, r"impossible shape \[4, -5, 6\]"),
    ({"sizes": "9" * 400 + " 5 6"}, "expected whole numbers"),
    ({"sizes": "4 5 7"}, "promises"),
    ({"sizes": "1000000 1000000 1000000"}, "promises 2000000000000000"),
    ({"sizes": "999999999999999999 " * 3}, "promises"),
    ({"encoding": "gzip", "sizes": "1000000 1000000 1000000"}, "promises"),
    ({"type": None}, "has no 'type'"),
    ({"type": "block"}, "holds 'block' voxels; expected one real number"),
    ({"type": "complex"}, "holds 'complex' voxels"),
    ({"endian": None}, "has no 'endian'"),
    ({"endian": "middle"}, "byte order is 'middle'"),
    ({"encoding": None}, "has no 'encoding'"),
    ({"encoding": "bzip2"}, "encoding is 'bzip2'; expected raw or gzip"),
    ({"encoding": "ascii"}, "encoding is 'ascii'"),
    ({"encoding": "hex", "endian": None}, "encoding is 'hex'"),
    ({"encoding": "bzip2", "endian": "middle"}, "encoding is 'bzip2'"),
    ({"line_skip": "2"}, "skips lines"),
    ({"byte_skip": "-2"}, "skips -2 bytes"),
    ({"byte_skip": "x"}, "'byte skip' as 'x'"),
    ({"byte_skip": "100"}, "promises"),
    ({"byte_skip": "-1", "encoding": "gzip"}, "skips -1 bytes"),
    ({"byte_skip": "-1", "sizes": "40 50 60"}, "promises"),
    ({"data_file": "absent.raw"}, "no such file beside it"),
    ({"data_file": "LIST"}, "spread over several files"),
    ({"data_file": "slice%03d.raw 1 6 1"}, "spread over several files"),
    ({"data_file": "/etc/hostname"}, "outside its own folder"),
    ({"data_file": "../scan.raw"}, "outside its own folder"),
    ({"Sizes": "4 5 6"}, "'sizes' twice"),
    (
        {**NRRD_FOUR_AXES, "sizes": "2 4 5 6", "space_directions": "none " * 2 + "(1,0,0) " * 2},
        "has 2 axes in space",
    ),
    (
        {**NRRD_FOUR_AXES, "sizes": "4 5 6 2", "space_directions": "(1,0,0) " * 4},
        r"has 4 axes in space, with the sizes \[4, 5, 6, 2\]; .* one file for each channel",
    ),
    (
        {
            "dimension": "5",
            "sizes": "2 3 4 5 6",
            "space_directions": "none none (1,0,0) (0,1,0) (0,0,1)",
        },
        r"axes \[0, 1\] have no direction",
    ),
]
NRRD_NOWHERE: list[tuple[Changes, str]] = [
    ({"space": "scanner-xyz"}, "the space 'scanner-xyz'; expected one of right-anterior"),
    ({"space": "3D-right-handed"}, "the space '3d-right-handed'"),
    ({"space": "left-posterior-superior-time"}, "the space 'left-posterior-superior-time'"),
    ({"space": "RPS"}, "the space 'rps'"),
    ({"space_directions": None}, "no 'space directions' and no spacing for each of 3 axes"),
    ({"space_directions": None, "spacings": "1 2"}, "no spacing for each of 3 axes"),
    ({"space_directions": None, "spacings": "1 2 x"}, "expected finite numbers, 3"),
    ({"space_directions": None, "spacings": "1 2 0"}, "voxel size is 1 x 2 x 0 mm"),
    (
        {
            "space": None,
            "space_dimension": "4",
            "space_directions": "(1,0,0,1) (0,2,0,0) (0,0,3,0)",
        },
        "runs through space and a fourth dimension",
    ),
    ({"space_directions": "(1,0,0) (0,2,0)"}, "gives 2 space directions for 3 axes"),
    ({"space_directions": "(1,0,0) (0,2,0) (0,0)"}, "expected finite numbers, 3"),
    ({"space_directions": "(1,0,0) (0,2,0) (0,0,x)"}, "expected finite numbers, 3"),
    ({"space_directions": "(1,0,0) (0,2,0) (0,0,nan)"}, "expected finite numbers, 3"),
    ({"space_directions": "(1,0,0) (0,2,0) (0,0,inf)"}, "expected finite numbers, 3"),
    ({"space_directions": "(1,0,0) (0,2,0) 3"}, "expected finite numbers, 3"),
    ({"space_directions": "(1,0,0) (0,2,0) (0,0,0)"}, "voxel size is 1 x 2 x 0 mm"),
    ({"space_directions": "(1,0,0) (0,2,0) (1,2,0)"}, "singular"),
    ({"space_directions": "(1,0,0) (0,2,0) (0,0,1e200)"}, "voxel size"),
    ({"space_origin": "(1,2)"}, "'space origin' as '1 2'"),
    ({"space_origin": "(1,2,nan)"}, "'space origin' as '1 2 nan'"),
    ({"space_origin": "1 2 3"}, "'space origin'"),
    ({"space_units": '"cm" "cm" "cm"'}, "space units are .*'cm'.* expected mm"),
]
METAIMAGE_UNREADABLE: list[tuple[Changes, str]] = [
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
]
METAIMAGE_NOWHERE: list[tuple[Changes, str]] = [
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
]


def cases(of_nrrd: list[tuple[Changes, str]], of_metaimage: list[tuple[Changes, str]]) -> Any:
    """Mark a test that takes a format, changes of its header and a complaint."""
    rows = [(NRRD, *row) for row in of_nrrd] + [(METAIMAGE, *row) for row in of_metaimage]
    return pytest.mark.parametrize(("form", "changes", "complaint"), rows)


@cases(NRRD_UNREADABLE, METAIMAGE_UNREADABLE)
def test_headers_that_cannot_be_read_are_refused(
    tmp_path: Path, form: Format, changes: Changes, complaint: str
) -> None:
    path = form.write(tmp_path, **changes)
    with peak_memory() as peak, pytest.raises(InputError, match=complaint) as refusal:
        form.read_header(path)
    assert peak() < 1_000_000
    assert str(path) in str(refusal.value)
    assert not isinstance(refusal.value, GeometryError)


@cases(NRRD_NOWHERE, METAIMAGE_NOWHERE)
def test_impossible_positions_are_refused(
    tmp_path: Path, form: Format, changes: Changes, complaint: str
) -> None:
    path = form.write(tmp_path, **changes)
    with pytest.raises(GeometryError, match=complaint) as refusal:
        form.read_header(path)
    assert str(path) in str(refusal.value)


@each_format
def test_a_missing_origin_is_zero(tmp_path: Path, form: Format) -> None:
    affine = read_scan([form.write(tmp_path, **{form.origin: None})]).affine
    assert affine[:3, 3].tolist() == [0, 0, 0]


@each_format
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 330), replacement=st.binary(min_size=1, max_size=8))
def test_an_altered_header_is_read_or_refused_and_nothing_else(
    tmp_path: Path, form: Format, position: int, replacement: bytes
) -> None:
    path = form.write(tmp_path)
    content = bytearray(path.read_bytes())
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    try:
        volume = read_scan([path])
    except InputError:
        return
    assert np.isfinite(volume.affine).all()
    assert volume.voxels.size * np.dtype("u1").itemsize <= len(content)
