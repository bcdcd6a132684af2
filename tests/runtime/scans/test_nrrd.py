from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scans.scan_files import LPS, OBLIQUE, SHAPE, itk_affine, peak_memory, ramp

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.nrrd import read_header

FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "4 5 6",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}
LPS_AFFINE = np.diag([1.0, 2.0, 3.0, 1.0]) + np.outer([10, 20, 30, 0], [0, 0, 0, 1])
FOUR_AXES = {"dimension": "4", "kinds": "vector domain domain domain"}


def write(path: Path, data: bytes = ramp().tobytes("F"), **changes: Any) -> Path:
    """File with FIELDS, some changed or, where None, left out; ``_`` stands for a space."""
    fields = FIELDS | {name.replace("_", " "): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    path.write_bytes("\n".join(["NRRD0004", *lines, "", ""]).encode() + data)
    return path


def test_the_plain_file_is_read(tmp_path: Path) -> None:
    volume = read_scan([write(tmp_path / "scan.nrrd")])
    assert np.array_equal(volume.voxels[0], ramp())
    assert np.array_equal(volume.affine, LPS @ LPS_AFFINE)
    assert volume.axis_codes == "LPS"
    assert not np.signbit(volume.affine[volume.affine == 0]).any()


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", [1, 1, 1]),
        ("RAS", [1, 1, 1]),
        ("left-anterior-superior", [-1, 1, 1]),
        ("LAS", [-1, 1, 1]),
        ("left-posterior-superior", [-1, -1, 1]),
        ("lps", [-1, -1, 1]),
        ("Left-Posterior-Superior", [-1, -1, 1]),
    ],
)
def test_every_anatomical_space_lies_where_itk_puts_it(
    tmp_path: Path, space: str, signs: list[int]
) -> None:
    path = write(tmp_path / "scan.nrrd", space=space)
    affine = read_scan([path]).affine
    assert np.array_equal(affine, np.diag([*signs, 1]) @ LPS_AFFINE)
    np.testing.assert_allclose(affine, itk_affine(SimpleITK.ReadImage(str(path))))


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"kinds": None}, ramp().tobytes("F")),
        ({"kinds": "space space space"}, ramp().tobytes("F")),
        ({"space_units": '"mm" "mm" "mm"'}, ramp().tobytes("F")),
        ({"space_units": '"" "" ""'}, ramp().tobytes("F")),
        ({"space_directions": "(1, 0, 0)  (0,2.0,0) ( 0,0,3e0 )"}, ramp().tobytes("F")),
        ({"type": "signed short int"}, ramp().tobytes("F")),
        ({"type": "INT16"}, ramp().tobytes("F")),
        ({"type": "double", "endian": "big"}, ramp(">f8").tobytes("F")),
        ({"type": "uint8", "endian": None}, ramp("u1").tobytes("F")),
        ({"encoding": "gzip"}, gzip.compress(ramp().tobytes("F"))),
        ({"encoding": "GZ"}, gzip.compress(ramp().tobytes("F"))),
        ({"encoding": "gz", "byte_skip": "3"}, gzip.compress(b"abc" + ramp().tobytes("F"))),
        ({"byte_skip": "7"}, bytes(7) + ramp().tobytes("F")),
        ({"byte_skip": "-1"}, bytes(99) + ramp().tobytes("F")),
        ({"byteskip": "-1"}, bytes(99) + ramp().tobytes("F")),
        ({"line_skip": "0"}, ramp().tobytes("F")),
        ({"content": "a: b"}, ramp().tobytes("F")),
        ({"measurement_frame": "(1,0,0) (0,1,0) (0,0,1)"}, ramp().tobytes("F")),
        ({}, ramp().tobytes("F") + b"trailer"),
    ],
)
def test_what_the_format_allows_is_read(
    tmp_path: Path, changes: dict[str, Any], data: bytes
) -> None:
    volume = read_scan([write(tmp_path / "scan.nrrd", data, **changes)])
    assert np.array_equal(volume.voxels[0], ramp())
    assert np.array_equal(volume.affine, LPS @ LPS_AFFINE)


def test_comments_own_keys_and_windows_line_ends_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nrrd", b"")
    header = path.read_bytes().replace(b"\ntype", b"\n# a: comment\nsizes:=1 1 1\na:b\ntype")
    path.write_bytes(header.replace(b"\n", b"\r\n") + ramp().tobytes("F"))
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


def test_a_missing_origin_is_zero(tmp_path: Path) -> None:
    affine = read_scan([write(tmp_path / "scan.nrrd", space_origin=None)]).affine
    assert affine[:3, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["scan.raw", "scan.raw.gz", "below/scan.raw", "a scan.raw"])
@pytest.mark.parametrize("field", ["data_file", "datafile"])
def test_voxels_may_be_in_a_file_beside_the_header(tmp_path: Path, name: str, field: str) -> None:
    content = ramp().tobytes("F")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    encoding = "gzip" if name.endswith("gz") else "raw"
    path = write(tmp_path / "scan.nhdr", b"", encoding=encoding, **{field: name})
    assert np.array_equal(read_scan([path]).voxels[0], ramp())
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # no empty line ends a detached header
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_the_axis_of_channels_may_stand_anywhere(tmp_path: Path, position: int) -> None:
    voxels = np.stack([ramp(), ramp() + 1, ramp() + 2])
    directions = FIELDS["space directions"].split()
    sizes = [*map(str, SHAPE)]
    directions.insert(position, "none")
    sizes.insert(position, "3")
    path = write(
        tmp_path / "scan.nrrd",
        np.moveaxis(voxels, 0, position).tobytes("F"),
        dimension="4",
        sizes=" ".join(sizes),
        space_directions=" ".join(directions),
        kinds=None,
    )
    assert np.array_equal(read_scan([path], channels=3).voxels, voxels)
    with pytest.raises(InputError, match=r"expects 2 channels .*scan\.nrrd holds 3"):
        read_scan([path], channels=2)


def test_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = write(
        tmp_path / "scan.nrrd",
        dimension="5",
        sizes="1 4 5 1 6",
        space_directions="none (1,0,0) (0,2,0) none (0,0,3)",
        kinds="RGB-color domain domain list domain",
    )
    assert np.array_equal(read_scan([path], channels=1).voxels[0], ramp())


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("name", ["scan.nrrd", "scan.nhdr"])
def test_what_pynrrd_wrote_is_read(tmp_path: Path, name: str, encoding: str) -> None:
    lps = LPS @ OBLIQUE
    header = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "encoding": encoding,
    }
    nrrd.write(str(tmp_path / name), ramp("f4"), header)
    volume = read_scan([tmp_path / name])
    assert np.array_equal(volume.voxels[0], ramp())
    np.testing.assert_allclose(volume.affine, OBLIQUE, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
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
            {**FOUR_AXES, "sizes": "2 4 5 6", "space_directions": "none " * 2 + "(1,0,0) " * 2},
            "has 2 axes in space",
        ),
        (
            {**FOUR_AXES, "sizes": "4 5 6 2", "space_directions": "(1,0,0) " * 4},
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
    ],
)
def test_headers_that_cannot_be_read_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "scan.nrrd", **changes)
    with peak_memory() as peak, pytest.raises(InputError, match=complaint) as refusal:
        read_header(path)
    assert peak() < 1_000_000
    assert str(path) in str(refusal.value)
    assert not isinstance(refusal.value, GeometryError)


@pytest.mark.parametrize("kind", ["RGB-color", "complex", "3D-matrix", "time"])
def test_numbers_that_are_no_channels_are_refused(tmp_path: Path, kind: str) -> None:
    path = write(
        tmp_path / "scan.nrrd",
        bytes(720),
        dimension="4",
        sizes="3 4 5 6",
        space_directions="none (1,0,0) (0,2,0) (0,0,3)",
        kinds=f"{kind} domain domain domain",
    )
    with pytest.raises(InputError, match=f"of the kind '{kind.lower()}'; expected channels"):
        read_header(path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
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
    ],
)
def test_impossible_positions_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "scan.nrrd", **changes)
    with pytest.raises(GeometryError, match=complaint) as refusal:
        read_header(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"NRRD0006\ntype: short\n\n", "expected NRRD0001 to NRRD0005"),
        (b"NRRD0004 \n\n", "expected NRRD0001"),
        (b"NRRD0004", "has no 'dimension'"),
        (b"NRRD0004\n\n" + bytes(100), "has no 'dimension'"),
        (b"NRRD0004\ntype short\n\n", "'type short' is no line of a NRRD header"),
        (b"NRRD0004\n" + bytes(500), "is no line of a NRRD header"),
        (b"NRRD0004\n" + b"# comment\n" * 200_000, "no header ends within 1048576 bytes"),
        (b"NRRD0004\n" + b"#" * 2_000_000, "no header ends within 1048576 bytes"),
    ],
)
def test_what_is_no_header_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_header(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 250), replacement=st.binary(min_size=1, max_size=8))
def test_an_altered_header_is_read_or_refused_and_nothing_else(
    tmp_path: Path, position: int, replacement: bytes
) -> None:
    path = write(tmp_path / "scan.nrrd")
    content = bytearray(path.read_bytes())
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    try:
        volume = read_scan([path])
    except InputError:
        return
    assert np.isfinite(volume.affine).all()
    assert volume.voxels.size * np.dtype("u1").itemsize <= len(content)


@pytest.mark.parametrize(
    ("name", "shape", "spacing_mm", "origin"),
    [
        ("heart_seg", (512, 512, 3), (0.810547, 0.810547, 1.0), (235.2, 226.8, -128.69)),
        (
            "sparse_labelmap_ppv5_seg",
            (24, 38, 3),
            (0.7, 0.7, 2.5),
            (-46.464900970458984, -5.0188097953796378, -177.75),
        ),
    ],
)
def test_the_geometry_of_real_files(
    data_dir: Path,
    name: str,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    origin: tuple[float, ...],
) -> None:
    volume = read_scan([data_dir / "dcmqi" / "segmentations" / f"{name}.nrrd"])
    assert (volume.shape, volume.spacing_mm, volume.axis_codes) == (shape, spacing_mm, "LPS")
    np.testing.assert_allclose(volume.affine[:3, 3], origin, rtol=1e-12)


def test_real_files_are_read_as_itk_reads_them(data_dir: Path) -> None:
    paths = sorted((data_dir / "dcmqi" / "segmentations").rglob("*.nrrd"))
    assert len(paths) >= 11
    for path in paths:
        volume, image = read_scan([path]), SimpleITK.ReadImage(str(path))
        assert np.array_equal(volume.voxels[0], SimpleITK.GetArrayFromImage(image).T)
        np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-9)
