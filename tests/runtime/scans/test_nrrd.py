from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK
from support.scans.scan_files import LPS, OBLIQUE, SHAPE, itk_affine, ramp
from support.scans.text_scans import NRRD_FIELDS, VOXELS, nrrd_bytes

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.nrrd import read_header

LPS_AFFINE = np.diag([1.0, 2.0, 3.0, 1.0]) + np.outer([10, 20, 30, 0], [0, 0, 0, 1])


def write(path: Path, data: bytes = VOXELS, **changes: Any) -> Path:
    path.write_bytes(nrrd_bytes(data, **changes))
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
        ({"kinds": None}, VOXELS),
        ({"kinds": "space space space"}, VOXELS),
        ({"space_units": '"mm" "mm" "mm"'}, VOXELS),
        ({"space_units": '"" "" ""'}, VOXELS),
        ({"space_directions": "(1, 0, 0)  (0,2.0,0) ( 0,0,3e0 )"}, VOXELS),
        ({"type": "signed short int"}, VOXELS),
        ({"type": "INT16"}, VOXELS),
        ({"type": "double", "endian": "big"}, ramp(">f8").tobytes("F")),
        ({"type": "uint8", "endian": None}, ramp("u1").tobytes("F")),
        ({"encoding": "gzip"}, gzip.compress(VOXELS, mtime=0)),
        ({"encoding": "GZ"}, gzip.compress(VOXELS, mtime=0)),
        ({"encoding": "gz", "byte_skip": "3"}, gzip.compress(b"abc" + VOXELS, mtime=0)),
        ({"byte_skip": "7"}, bytes(7) + VOXELS),
        ({"byte_skip": "-1"}, bytes(99) + VOXELS),
        ({"byteskip": "-1"}, bytes(99) + VOXELS),
        ({"line_skip": "0"}, VOXELS),
        ({"content": "a: b"}, VOXELS),
        ({"measurement_frame": "(1,0,0) (0,1,0) (0,0,1)"}, VOXELS),
        ({}, VOXELS + b"trailer"),
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
    path.write_bytes(header.replace(b"\n", b"\r\n") + VOXELS)
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize("name", ["scan.raw", "scan.raw.gz", "below/scan.raw", "a scan.raw"])
@pytest.mark.parametrize("field", ["data_file", "datafile"])
def test_voxels_may_be_in_a_file_beside_the_header(tmp_path: Path, name: str, field: str) -> None:
    content = VOXELS
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(
        gzip.compress(content, mtime=0) if name.endswith("gz") else content
    )
    encoding = "gzip" if name.endswith("gz") else "raw"
    path = write(tmp_path / "scan.nhdr", b"", encoding=encoding, **{field: name})
    assert np.array_equal(read_scan([path]).voxels[0], ramp())
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # no empty line ends a detached header
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_the_axis_of_channels_may_stand_anywhere(tmp_path: Path, position: int) -> None:
    voxels = np.stack([ramp(), ramp() + 1, ramp() + 2])
    directions = NRRD_FIELDS["space directions"].split()
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
