"""Refusals and warnings that all formats share."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scans.scan_files import LPS, SHAPE, ramp, write_by_itk

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.formats import read_header, read_scan
from segmaformer.runtime.scans.scan_file import read_volume

VOXELS = ramp()
DATA = VOXELS.tobytes("F")
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
STORED = AFFINE.copy()
"""Affine of the text formats below, in their own coordinates."""

NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 5 6
space directions: (1,0,0) (0,2,0) (0,0,3)
endian: little
encoding: {encoding}
{more}
"""
META = """ObjectType = Image
NDims = 3
CompressedData = {compressed}
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 2 3
DimSize = 4 5 6
ElementType = MET_SHORT
ElementDataFile = {place}
"""


def nifti(folder: Path, data: bytes) -> Path:
    content = nibabel.Nifti1Image(VOXELS, AFFINE).to_bytes()
    (folder / "scan.nii").write_bytes(content[: -len(DATA)] + data)
    return folder / "scan.nii"


def nifti_gz(folder: Path, data: bytes) -> Path:
    path = nifti(folder, data)
    (folder / "scan.nii.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return folder / "scan.nii.gz"


def nrrd(folder: Path, data: bytes) -> Path:
    header = NRRD.format(encoding="raw", more="")
    (folder / "scan.nrrd").write_bytes(header.encode() + data)
    return folder / "scan.nrrd"


def nrrd_gzip(folder: Path, data: bytes) -> Path:
    header = NRRD.format(encoding="gzip", more="")
    (folder / "scan.nrrd").write_bytes(header.encode() + gzip.compress(data, mtime=0))
    return folder / "scan.nrrd"


def nhdr(folder: Path, data: bytes) -> Path:
    (folder / "scan.raw").write_bytes(data)
    more = "data file: scan.raw\n"
    (folder / "scan.nhdr").write_text(NRRD.format(encoding="raw", more=more))
    return folder / "scan.nhdr"


def nhdr_gzip(folder: Path, data: bytes) -> Path:
    (folder / "scan.raw.gz").write_bytes(gzip.compress(data, mtime=0))
    more = "data file: scan.raw.gz\n"
    (folder / "scan.nhdr").write_text(NRRD.format(encoding="gzip", more=more))
    return folder / "scan.nhdr"


def mha(folder: Path, data: bytes) -> Path:
    header = META.format(compressed=False, place="LOCAL")
    (folder / "scan.mha").write_bytes(header.encode() + data)
    return folder / "scan.mha"


def mha_zlib(folder: Path, data: bytes) -> Path:
    header = META.format(compressed=True, place="LOCAL")
    (folder / "scan.mha").write_bytes(header.encode() + zlib.compress(data))
    return folder / "scan.mha"


def mhd(folder: Path, data: bytes) -> Path:
    (folder / "scan.raw").write_bytes(data)
    (folder / "scan.mhd").write_text(META.format(compressed=False, place="scan.raw"))
    return folder / "scan.mhd"


def mhd_zlib(folder: Path, data: bytes) -> Path:
    (folder / "scan.zraw").write_bytes(zlib.compress(data))
    (folder / "scan.mhd").write_text(META.format(compressed=True, place="scan.zraw"))
    return folder / "scan.mhd"


Writer = Callable[[Path, bytes], Path]
WRITERS = [nifti, nifti_gz, nrrd, nrrd_gzip, nhdr, nhdr_gzip, mha, mha_zlib, mhd, mhd_zlib]
COMPRESSED = [nifti_gz, nrrd_gzip, mha_zlib]
every_format = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
every_suffix = pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])


def voxel_file(path: Path) -> Path:
    """Return the largest file, which is that of the voxels."""
    return max(path.parent.glob("scan.*"), key=lambda each: (each == path, each.stat().st_size))


@every_format
@pytest.mark.parametrize("trailer", [bytes(16), b"note", bytes(60_000), b"\x1f\x8b"])
def test_bytes_after_the_voxels_are_remarked_and_left_alone(
    tmp_path: Path, write: Writer, trailer: bytes
) -> None:
    volume = read_scan([write(tmp_path, DATA + trailer)])
    assert np.array_equal(volume.voxels[0], VOXELS)
    (remark,) = volume.remarks
    assert remark.level == "warn"
    assert f"{len(trailer)} bytes follow the voxels" in remark.what


@every_format
@pytest.mark.parametrize("again", [DATA, DATA[::-1]])
def test_a_file_that_is_replaced_while_it_is_read_is_refused(
    tmp_path: Path, write: Writer, again: bytes
) -> None:
    header = read_header(write(tmp_path, DATA))
    (tmp_path / "other").mkdir()
    os.replace(write(tmp_path / "other", again), header.path)
    with pytest.raises(InputError, match="was replaced or changed while it was read"):
        read_volume([header])


@every_format
def test_nothing_is_remarked_where_nothing_follows(tmp_path: Path, write: Writer) -> None:
    assert read_scan([write(tmp_path, DATA)]).remarks == ()


@every_format
def test_far_more_than_the_voxels_is_refused(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(InputError, match="holds more than its header promises"):
        read_scan([write(tmp_path, DATA + bytes(70_000))])


@pytest.mark.parametrize("write", COMPRESSED, ids=lambda write: write.__name__)
@pytest.mark.parametrize("trailer", [bytes(512), b"garbage", b"\x1f"])
def test_bytes_after_a_compressed_stream_are_remarked_too(
    tmp_path: Path, write: Writer, trailer: bytes
) -> None:
    path = write(tmp_path, DATA)
    path.write_bytes(path.read_bytes() + trailer)
    volume = read_scan([path])
    assert np.array_equal(volume.voxels[0], VOXELS)
    assert [f"{len(trailer)} bytes follow" in remark.what for remark in volume.remarks] == [True]


@pytest.mark.parametrize(
    "write", [nrrd_gzip, nhdr_gzip, mha_zlib, mhd_zlib], ids=lambda write: write.__name__
)
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_voxels_compressed_twice_are_told(
    tmp_path: Path, write: Writer, pack: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(InputError, match="compressed twice; expected once"):
        read_scan([write(tmp_path, pack(DATA))])


@pytest.mark.parametrize(
    ("name", "content"),
    [(f"scan{suffix}", b"") for suffix in (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")]
    + [("scan.nii.gz", gzip.compress(b"", mtime=0))],
)
def test_an_empty_file_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="is empty; copy it again"):
        read_scan([tmp_path / name])


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=4), trailer=st.integers(0, 300))
def test_members_of_gzip_may_be_divided_anywhere(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], trailer: int
) -> None:
    folder = tmp_path_factory.mktemp("members")
    plain = nifti(folder, DATA).read_bytes()
    edges = [0, *sorted(cuts), len(plain)]
    members = [gzip.compress(plain[a:b], mtime=0) for a, b in itertools.pairwise(edges)]
    (folder / "scan.nii.gz").write_bytes(b"".join(members) + bytes(trailer))
    volume = read_scan([folder / "scan.nii.gz"])
    assert np.array_equal(volume.voxels[0], VOXELS)
    assert len(volume.remarks) == (trailer > 0)


@every_suffix
@pytest.mark.parametrize("ones", [1, 2])
def test_trailing_axes_of_one_are_dropped(tmp_path: Path, suffix: str, ones: int) -> None:
    if ".nii" in suffix:
        image = nibabel.Nifti1Image(VOXELS.reshape(*SHAPE, *[1] * ones), AFFINE)
        nibabel.save(image, tmp_path / f"scan{suffix}")
    elif ones == 1:
        image = SimpleITK.GetImageFromArray(VOXELS.T[None], isVector=False)
        SimpleITK.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    else:
        pytest.skip("ITK writes no image of five axes")
    volume = read_scan([tmp_path / f"scan{suffix}"], channels=1)
    assert np.array_equal(volume.voxels[0], VOXELS)


@every_suffix
@pytest.mark.parametrize("kind", ["vector", "fourth axis"])
def test_channels_count_as_they_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    voxels = np.stack([VOXELS, VOXELS + 300])
    image = SimpleITK.GetImageFromArray(
        voxels.T if kind == "vector" else voxels.transpose(0, 3, 2, 1), isVector=kind == "vector"
    )
    path = tmp_path / f"scan{suffix}"
    SimpleITK.WriteImage(image, str(path))
    single = write_by_itk(tmp_path / "one.nii", VOXELS + 600, LPS, False)
    assert np.array_equal(read_scan([path], channels=2).voxels, voxels)
    mixed = read_scan([path, single], channels=3).voxels
    assert np.array_equal(mixed, [*voxels, VOXELS + 600])
    with pytest.raises(InputError, match=r"expects|expected a 3-D scan"):
        read_scan([path], channels=1)
    with pytest.raises(InputError, match=r"expects|expected a 3-D scan"):
        read_scan([path], channels=3)
    if kind == "vector":
        assert np.array_equal(read_scan([path]).voxels, voxels)
    else:
        with pytest.raises(InputError, match=r"is 4-D, with 2 entries .* \(-m PACKAGE\)"):
            read_scan([path])


@pytest.mark.parametrize(("write", "line"), [(nrrd, "space directions"), (mha, "TransformMatrix")])
def test_missing_directions_are_remarked(tmp_path: Path, write: Writer, line: str) -> None:
    path = write(tmp_path, DATA)
    lines = path.read_bytes().split(b"\n")
    lines = [b"spacings: 1 2 3" if each.startswith(b"space dir") else each for each in lines]
    lines = [each for each in lines if not each.startswith(line.encode())]
    path.write_bytes(b"\n".join(lines))
    volume = read_scan([path])
    assert np.array_equal(volume.voxels[0], VOXELS)
    assert np.array_equal(volume.affine, LPS @ AFFINE)
    (remark,) = volume.remarks
    assert "Left and right may be exchanged" in remark.what
    assert line in remark.what


@pytest.mark.parametrize("lines", [b"", b"space dimension: 3\n"])
def test_a_space_without_a_name_is_remarked(tmp_path: Path, lines: bytes) -> None:
    path = nrrd(tmp_path, DATA)
    path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior\n", lines))
    volume = read_scan([path])
    assert np.array_equal(volume.affine, LPS @ AFFINE)
    assert ["it has no 'space';" in remark.what for remark in volume.remarks] == [True]


def shifted(path: Path, shift_voxels: tuple[float, float, float]) -> Path:
    affine = AFFINE.copy()
    affine[:3, 3] = AFFINE[:3, :3] @ shift_voxels
    return write_by_itk(path, VOXELS, affine, False)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("shift", "verdict"),
    [
        ((0.009, 0, 0), "nothing"),
        ((0.02, 0, 0), "0.02 mm"),
        ((0, 0.25, 0), "0.5 mm"),
        ((0, 0, 0.5), "1.5 mm"),
        ((0.49, 0.49, -0.49), "1.83 mm"),
        ((0.51, 0, 0), "refused"),
        ((0, 0, -0.51), "refused"),
    ],
)
def test_channels_may_be_half_a_voxel_apart(
    tmp_path: Path, suffix: str, shift: tuple[float, float, float], verdict: str
) -> None:
    first = shifted(tmp_path / "a.nii", (0, 0, 0))
    second = shifted(tmp_path / f"b{suffix}", shift)
    if verdict == "refused":
        with pytest.raises(GeometryError, match="within half a voxel"):
            read_scan([first, second], channels=2)
        return
    volume = read_scan([first, second], channels=2)
    assert np.array_equal(volume.affine, read_header(first).affine)
    assert [verdict in remark.what for remark in volume.remarks] == [True] * (verdict != "nothing")


def test_channels_that_state_other_edges_are_remarked(tmp_path: Path) -> None:
    first, second = nifti(tmp_path, DATA), tmp_path / "second.nii"
    header = read_header(first).header.copy()
    header["pixdim"][1:4] = (1, 2, 4)
    second.write_bytes(header.binaryblock + first.read_bytes()[348:])
    (remark,) = read_scan([first, second], channels=2).remarks
    assert "states voxel edges of 1 x 2 x 4 mm, scan.nii of 1 x 2 x 3 mm" in remark.what


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_voxels_that_are_not_finite_may_be_replaced(
    tmp_path: Path, suffix: str, value: float
) -> None:
    voxels = ramp("f8")
    voxels[3, 1, 2] = voxels[0, 4, 5] = value
    path = write_by_itk(tmp_path / f"scan{suffix}", voxels, np.eye(4), True)
    with pytest.raises(InputError, match="by --nan-to VALUE"):
        read_scan([path])
    volume = read_scan([path], nan_to=-7)
    assert volume.voxels[0, 3, 1, 2] == volume.voxels[0, 0, 4, 5] == -7
    assert np.count_nonzero(volume.voxels == -7) == 2
    assert volume.replacement is not None
    assert (volume.replacement.value, volume.replacement.voxels) == (-7, 2)
    assert ["2 of 120 voxels were NaN" in remark.what for remark in volume.remarks] == [True]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_what_is_not_finite_replaces_nothing(tmp_path: Path, value: float) -> None:
    path = write_by_itk(tmp_path / "scan.nii", VOXELS, np.eye(4), False)
    with pytest.raises(ValueError, match="expected a finite number"):
        read_scan([path], nan_to=value)


@every_suffix
def test_what_is_no_file_is_refused_without_opening_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    kinds: dict[str, Callable[[], None]] = {
        r"is a link to .*absent, which cannot be followed": lambda: path.symlink_to("absent"),
        "is a link to .* cannot be followed": lambda: path.symlink_to(path.name),
        "is a named pipe": lambda: os.mkfifo(path),
        "is a device": lambda: path.symlink_to("/dev/zero"),
    }
    for complaint, make in kinds.items():
        make()
        with pytest.raises(InputError, match=complaint):
            read_header(path)
        path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_header(path)


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = nifti(tmp_path, DATA)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"scan\.nii cannot be read: Permission denied"):
        read_header(path)
