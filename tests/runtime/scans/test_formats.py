from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.packages.samples import head_like
from support.scans.scan_files import (
    OBLIQUE,
    SHAPE,
    itk_affine,
    itk_image,
    peak_memory,
    ramp,
    write_by_itk,
)

from segmaformer.runtime.errors import BudgetError, GeometryError, InputError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.scans.formats import (
    SUFFIXES,
    label_map_suffix,
    read_header,
    read_labels,
    read_scan,
    scan_name,
    write_label_map,
)
from segmaformer.runtime.scans.volume import Volume, check_affine

# ITK writes a NIfTI's directions as a quaternion, which holds right angles only.
RIGHT_ANGLED = np.eye(4)
RIGHT_ANGLED[:3, :3] = Rotation.from_euler("xyz", [0.2, -0.3, 0.5]).as_matrix() * [0.7, 2, 3.25]
RIGHT_ANGLED[:3, 3] = (-3.5, 2.25, 1)
LABELS = (ramp() % 7).astype(np.uint8)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_itk_wrote_is_read(tmp_path: Path, suffix: str, compress: bool) -> None:
    affine = RIGHT_ANGLED if ".nii" in suffix else OBLIQUE
    path = write_by_itk(tmp_path / f"scan{suffix}", ramp(), affine, compress)
    volume = read_scan([path], channels=1)
    assert np.array_equal(volume.voxels, ramp()[None])
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.source == (path,)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_every_type_that_itk_writes_is_read(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = write_by_itk(tmp_path / f"scan{suffix}", ramp(dtype), np.eye(4), True)
    assert np.array_equal(read_scan([path]).voxels[0], ramp())


@pytest.mark.parametrize("written", SUFFIXES)
@pytest.mark.parametrize("scanned", SUFFIXES)
def test_label_maps_lie_where_the_scan_lies(tmp_path: Path, scanned: str, written: str) -> None:
    scan = write_by_itk(tmp_path / f"scan{scanned}", ramp(), RIGHT_ANGLED, True)
    write_label_map(tmp_path / f"labels{written}", LABELS, read_scan([scan]))
    expected, found = (SimpleITK.ReadImage(str(p)) for p in (scan, tmp_path / f"labels{written}"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), LABELS.T)
    assert found.GetPixelID() == SimpleITK.sitkUInt8
    for quantity in ("Size", "Spacing", "Origin", "Direction"):
        pair = (getattr(image, f"Get{quantity}")() for image in (found, expected))
        np.testing.assert_allclose(*pair, atol=1e-6, err_msg=quantity)


orientations = st.builds(
    lambda axes, signs, angles, spacing, origin: np.block(
        [
            [
                Rotation.from_euler("xyz", angles).as_matrix()
                @ (np.eye(3)[list(axes)] * signs)
                * spacing,
                np.array(origin)[:, None],
            ],
            [np.zeros(3), np.ones(1)],
        ]
    ),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.sampled_from([0.0, 0.125, -0.5, 0.78])] * 3),
    st.tuples(*[st.sampled_from([0.5, 0.78125, 1.0, 3.0])] * 3),
    st.tuples(*[st.sampled_from([-4.0, 0.0, 0.3125, 3.875])] * 3),
)


@settings(max_examples=60)
@given(affine=orientations, scanned=st.sampled_from(SUFFIXES), written=st.sampled_from(SUFFIXES))
def test_any_orientation_keeps_its_place(
    tmp_path_factory: pytest.TempPathFactory, affine: np.ndarray, scanned: str, written: str
) -> None:
    folder = tmp_path_factory.mktemp("scan")
    volume = read_scan([write_by_itk(folder / f"a{scanned}", ramp(), affine, True)])
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert np.array_equal(volume.voxels[0], ramp())
    write_label_map(folder / f"b{written}", LABELS, volume)
    found = SimpleITK.ReadImage(str(folder / f"b{written}"))
    np.testing.assert_allclose(itk_affine(found), affine, atol=1e-6)
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), LABELS.T)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_again_to_the_last_bit(tmp_path: Path, suffix: str) -> None:
    volume = Volume(ramp("f4")[None], OBLIQUE)
    write_label_map(tmp_path / f"labels{suffix}", LABELS, volume)
    again = read_scan([tmp_path / f"labels{suffix}"])
    tolerance = 1e-6 if ".nii" in suffix else 4e-16  # NIfTI holds float32
    np.testing.assert_allclose(again.affine, OBLIQUE, rtol=tolerance, atol=tolerance)
    assert np.array_equal(again.voxels[0], LABELS)
    assert [path.name for path in tmp_path.iterdir()] == [f"labels{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_labels_are_written_with_two_bytes(tmp_path: Path, suffix: str) -> None:
    labels = np.arange(120, dtype=">u4").reshape(SHAPE) * 9
    write_label_map(tmp_path / f"labels{suffix}", labels, Volume(ramp("f4")[None], np.eye(4)))
    found = SimpleITK.ReadImage(str(tmp_path / f"labels{suffix}"))
    assert found.GetPixelID() == SimpleITK.sitkUInt16
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), labels.T)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
def test_pynrrd_reads_the_label_map(tmp_path: Path, suffix: str) -> None:
    write_label_map(tmp_path / f"labels{suffix}", LABELS, Volume(ramp("f4")[None], OBLIQUE))
    labels, header = nrrd.read(str(tmp_path / f"labels{suffix}"))
    assert np.array_equal(labels, LABELS)
    assert header["space"] == "left-posterior-superior"
    lps = OBLIQUE[:3] * [[-1], [-1], [1]]
    assert np.array_equal(header["space directions"], lps[:, :3].T)
    assert np.array_equal(header["space origin"], lps[:, 3])


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    volume = Volume(ramp("f4")[None], OBLIQUE)
    for suffix in (".nrrd", ".mha", ".nii"):
        for name in ("a", "b"):
            write_label_map(tmp_path / f"{name}{suffix}", LABELS, volume)
        a, b = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
        assert a == b


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_label_map(tmp_path / f"labels{suffix}", LABELS, Volume(ramp("f4")[None], np.eye(4)))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("scan.nii.gz", ".nii.gz", "scan"),
        ("SCAN.NII.GZ", ".nii.gz", "SCAN"),
        ("a.b.nii", ".nii.gz", "a.b"),
        ("a.nrrd", ".nrrd", "a"),
        ("a.seg.nhdr", ".nrrd", "a.seg"),
        ("a.mhd", ".mha", "a"),
        ("a.MHA", ".mha", "a"),
        ("a", ".nii.gz", "a"),
        ("a.gz", ".nii.gz", "a"),
    ],
)
def test_a_scan_names_its_label_map(name: str, suffix: str, stem: str) -> None:
    assert label_map_suffix(Path(name)) == suffix
    assert scan_name(Path(name)) == stem


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("other", ["scan", "scan.dat", "scan.nrrd", "scan.mha", "scan.nii.gz"])
def test_content_decides_how_a_file_is_read(tmp_path: Path, suffix: str, other: str) -> None:
    path = write_by_itk(tmp_path / f"a{suffix}", ramp(), np.eye(4), False)
    assert np.array_equal(read_scan([path.rename(tmp_path / other)]).voxels[0], ramp())


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("scan.nii", "is not a NIfTI file"),
        ("scan.nii.gz", "is not a NIfTI file"),
        ("scan.nrrd", "is not a NRRD file"),
        ("scan.NHDR", "is not a NRRD file"),
        ("scan.mha", "is not a MetaImage file"),
        ("scan.mhd", "is not a MetaImage file"),
        ("scan.dcm", r"is no scan; expected a file that ends in \.nii\.gz, .* \.mhd"),
        ("scan", "is no scan"),
    ],
)
@pytest.mark.parametrize("content", [b"text\n", bytes(600)])
def test_other_files_are_refused(tmp_path: Path, name: str, complaint: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_scan([tmp_path / name])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no scan at .*absent\.nrrd"):
        read_scan([tmp_path / "absent.nrrd"])


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_header(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.nii")
    with pytest.raises(InputError, match="is a named pipe; expected a file"):
        read_header(tmp_path / "scan.nii")


def test_channels_may_be_of_different_formats(tmp_path: Path) -> None:
    paths = [
        write_by_itk(tmp_path / f"{i}{suffix}", ramp() + 10 * i, RIGHT_ANGLED, True)
        for i, suffix in enumerate(SUFFIXES)
    ]
    volume = read_scan(paths[::-1], channels=len(SUFFIXES))
    assert volume.voxels[:, 0, 0, 0].tolist() == [51, 41, 31, 21, 11, 1]
    assert volume.header is None
    assert read_scan(paths).header is not None


@pytest.mark.parametrize("moved", [False, True])
def test_channels_of_different_formats_must_lie_on_one_grid(tmp_path: Path, moved: bool) -> None:
    other = RIGHT_ANGLED + 2 * np.eye(4)[[0, 1, 3, 2]] * moved
    other[3] = (0, 0, 0, 1)
    voxels = ramp() if moved else ramp(shape=(4, 5, 7))
    first = write_by_itk(tmp_path / "a.nii", ramp(), RIGHT_ANGLED, False)
    second = write_by_itk(tmp_path / "b.nrrd", voxels, other, False)
    with pytest.raises(GeometryError, match=r"b\.nrrd (lies up to|has shape).* one grid"):
        read_scan([first, second])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_file_of_several_channels_is_accepted_when_they_are_those_asked_for(
    tmp_path: Path, suffix: str
) -> None:
    voxels = np.stack([ramp() + 10 * channel for channel in range(3)])
    path = write_by_itk(tmp_path / f"scan{suffix}", voxels, RIGHT_ANGLED, True)
    single = write_by_itk(tmp_path / "single.nii", ramp(), RIGHT_ANGLED, True)
    for channels in (3, None):
        volume = read_scan([path], channels=channels)
        assert np.array_equal(volume.voxels, voxels)
        np.testing.assert_allclose(volume.affine, RIGHT_ANGLED, atol=1e-6)
    assert np.array_equal(read_scan([single, path], channels=4).voxels[1:], voxels)
    with pytest.raises(InputError, match=r"expects 1 channel and 1 file is given; .* holds 3;"):
        read_scan([path], channels=1)


def test_a_budget_is_kept_before_memory_is_taken(tmp_path: Path) -> None:
    voxels = np.ones((100, 100, 100), np.uint8)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    with peak_memory() as peak, pytest.raises(BudgetError, match="the voxels of this scan need"):
        read_scan([path], budget_bytes=4_000_000 - 1)
    assert peak() < 1_000_000
    assert read_scan([path], budget_bytes=4_000_000).shape == (100, 100, 100)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_no_more_is_held_than_the_voxels_and_a_few_planes(tmp_path: Path, suffix: str) -> None:
    shape = (100, 100, 200)
    path = write_by_itk(tmp_path / f"scan{suffix}", ramp("f8", shape), np.eye(4), True)
    with peak_memory() as peak:
        volume = read_scan([path])
    assert peak() < volume.voxels.nbytes + 12 * 100 * 100 * 8


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path: Path, suffix: str) -> None:
    path = write_by_itk(tmp_path / f"scan{suffix}", ramp("f8"), np.eye(4), False)
    content = path.read_bytes()
    if suffix == ".nii":
        header = nibabel.Nifti1Header(content[:348], check=False)
        header["dim"][1:4] = 32_767
        content = header.binaryblock + content[348:]
    else:
        content = content.replace(b" 4 5 6\n", b" 1000000 1000000 1000000\n")
    path.write_bytes(content)
    with peak_memory() as peak, pytest.raises(InputError, match=r"promises \d{15,} bytes"):
        read_scan([path])
    assert peak() < 1_000_000


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, suffix: str) -> None:
    path = write_by_itk(tmp_path / f"scan{suffix}", ramp("u1", (4, 5, 600)), np.eye(4), True)
    zeros = np.zeros((1000, 1000, 50), np.uint8)
    bomb = write_by_itk(tmp_path / f"bomb{suffix}", zeros, np.eye(4), True)
    _small_promise(path, bomb)
    with (
        peak_memory() as peak,
        pytest.raises(InputError, match="holds more than its header promises"),
    ):
        read_scan([bomb])
    assert peak() < 1_000_000


def _small_promise(small: Path, bomb: Path) -> None:
    """Give the bomb the header of the small file."""
    if bomb.name.endswith(".nii.gz"):
        start = gzip.decompress(small.read_bytes())[:352]
        bomb.write_bytes(gzip.compress(start + gzip.decompress(bomb.read_bytes())[352:], mtime=0))
        return
    content = bomb.read_bytes()
    assert content.count(b" 1000 1000 50\n") == 1
    bomb.write_bytes(content.replace(b" 1000 1000 50\n", b" 4 5 600\n"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_compressed_data_shorter_than_promised_are_refused(tmp_path: Path, suffix: str) -> None:
    short = write_by_itk(tmp_path / f"a{suffix}", ramp("i2", (4, 5, 600)), np.eye(4), True)
    long = write_by_itk(tmp_path / f"b{suffix}", ramp("i2", (4, 5, 601)), np.eye(4), True)
    if suffix == ".nii.gz":
        start = gzip.decompress(long.read_bytes())[:352]
        short.write_bytes(gzip.compress(start + gzip.decompress(short.read_bytes())[352:], mtime=0))
    else:
        short.write_bytes(short.read_bytes().replace(b" 4 5 600\n", b" 4 5 601\n"))
    with pytest.raises(InputError, match="fewer voxels than its header promises"):
        read_scan([short])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("removed", [1, 40, 200])
def test_truncated_files_are_refused(
    tmp_path: Path, suffix: str, compress: bool, removed: int
) -> None:
    voxels = np.random.default_rng(0).integers(1, 999, (9, 8, 7), np.int16)
    write_by_itk(tmp_path / f"scan{suffix}", voxels, np.eye(4), compress)
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-removed])
    with pytest.raises(InputError, match="cut off"):
        read_scan([tmp_path / f"scan{suffix}"])


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_voxels_that_are_not_finite_are_located(tmp_path: Path, suffix: str, value: float) -> None:
    voxels = ramp("f8")
    voxels[3, 1, 2] = voxels[0, 4, 5] = value
    path = write_by_itk(tmp_path / f"scan{suffix}", voxels, np.eye(4), False)
    with pytest.raises(InputError, match=r"2 of 120 voxels .* first at \[3, 1, 2\]"):
        read_scan([path])


def test_the_place_of_a_bad_voxel_is_told_without_its_channel(tmp_path: Path) -> None:
    voxels = np.stack([ramp("f4"), ramp("f4")])
    voxels[1, 3, 1, 2] = np.nan
    for suffix in (".nrrd", ".mha"):
        path = write_by_itk(tmp_path / f"scan{suffix}", voxels, np.eye(4), False)
        with pytest.raises(InputError, match=r"1 of 240 voxels .* first at \[3, 1, 2\]"):
            read_scan([path])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_scan_is_refused(tmp_path: Path, suffix: str) -> None:
    voxels = np.zeros(SHAPE, np.int16)
    path = write_by_itk(tmp_path / f"scan{suffix}", voxels, np.eye(4), True)
    with pytest.raises(InputError, match=r"every voxel .* is zero"):
        read_scan([path])


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_a_4d_scan_is_refused(tmp_path: Path, suffix: str) -> None:
    image = SimpleITK.JoinSeries([itk_image(ramp(), np.eye(4))] * 2)
    SimpleITK.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    with pytest.raises(InputError, match="expected a 3-D scan"):
        read_scan([tmp_path / f"scan{suffix}"])


def test_a_complex_image_is_refused(tmp_path: Path) -> None:
    image = SimpleITK.Cast(itk_image(ramp("f4"), np.eye(4)), SimpleITK.sitkComplexFloat32)
    for suffix, complaint in ((".nii", "complex64 voxels"), (".nrrd", "of the kind 'complex'")):
        SimpleITK.WriteImage(image, str(tmp_path / f"scan{suffix}"))
        with pytest.raises(InputError, match=complaint):
            read_scan([tmp_path / f"scan{suffix}"])


@pytest.mark.parametrize("paths", [[], "scan.nii", Path("scan.nii")])
def test_paths_must_be_a_sequence_with_something_in_it(paths: Any) -> None:
    with pytest.raises(ValueError, match="give a sequence"):
        read_scan(paths)


def test_labels_may_be_zero_but_of_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), path)
    assert read_labels(path).shape == (3, 4, 5)
    with pytest.raises(InputError, match="nothing to segment"):
        read_scan([path])
    image = SimpleITK.GetImageFromArray(np.ones((3, 4, 5, 2), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "two.mha"))
    with pytest.raises(InputError, match="holds 2 channels; expected a label map of one"):
        read_labels(tmp_path / "two.mha")


@pytest.mark.parametrize("paths", [np.ones((3, 3, 3)), 3, None])
def test_what_is_no_sequence_is_refused(paths: Any) -> None:
    with pytest.raises(TypeError, match=r"is a .*; give a sequence, .* make a Volume of voxels"):
        read_scan(paths)


def test_a_real_scan_comes_out_the_same_from_every_format(data_dir: Path, tmp_path: Path) -> None:
    original = read_scan([data_dir / "msd_spleen_crop" / "sub-spleen2_ct.nii.gz"])
    labels = (original.voxels[0] > 100).astype(np.uint8)
    for suffix in SUFFIXES:
        path = tmp_path / f"scan{suffix}"
        write_by_itk(path, original.voxels[0], original.affine, True)
        volume = read_scan([path])
        assert np.array_equal(volume.voxels, original.voxels)
        np.testing.assert_allclose(volume.affine, original.affine, atol=1e-4)
        check_affine(volume.affine, suffix)
        write_label_map(tmp_path / f"labels{suffix}", labels, volume)
        found, scan = (SimpleITK.ReadImage(str(p)) for p in (tmp_path / f"labels{suffix}", path))
        np.testing.assert_allclose(itk_affine(found), itk_affine(scan), rtol=1e-6, atol=1e-6)


def test_a_prediction_is_the_same_from_every_format_and_written_in_kind(
    tiny_package_path: Path, tmp_path: Path
) -> None:
    # A NIfTI holds float32, and a training's reader took what that gives. Edges that float32 holds
    # are the same in every format.
    straight = np.diag([0.75, 2, 3.25, 1])
    predictor = Predictor(Package.open(tiny_package_path))
    voxels = head_like((20, 22, 18)) + np.float32(1)
    found = []
    for suffix in SUFFIXES:
        scan = write_by_itk(tmp_path / f"scan{suffix}", voxels, straight, True)
        written = tmp_path / f"labels{label_map_suffix(scan)}"
        predictor.predict(scan).save(written)
        found.append(SimpleITK.ReadImage(str(written)))
    for image in found:
        assert np.array_equal(*map(SimpleITK.GetArrayFromImage, (image, found[0])))
        np.testing.assert_allclose(itk_affine(image), straight, atol=1e-6)
    assert SimpleITK.GetArrayFromImage(found[0]).any()


def test_a_predictor_reads_no_scan_that_exceeds_its_budget(
    tiny_package_path: Path, tmp_path: Path
) -> None:
    predictor = Predictor(Package.open(tiny_package_path), memory_budget_mib=3)
    scan = write_by_itk(tmp_path / "scan.mha", ramp("u1", (100, 100, 100)), np.eye(4), True)
    with (
        peak_memory() as peak,
        pytest.raises(BudgetError, match="labels of this scan need at least"),
    ):
        predictor.predict(scan)
    assert peak() < 1_000_000
