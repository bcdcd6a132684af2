from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
import pytest

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.formats import read_scan, write_label_map
from segmaformer.runtime.scans.volume import Volume

SHAPE = (4, 5, 6)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, **fields: Any) -> Path:
    """Write voxels exactly as they are, with header `fields` set afterwards."""
    image = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.header.set_slope_inter(1, 0)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def ramp(dtype: Any = np.int16) -> np.ndarray:
    return np.arange(120).reshape(SHAPE).astype(dtype)


@pytest.mark.parametrize(
    "dtype",
    ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", ">i2", ">f4", ">f8"],
)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_every_real_type_is_read(tmp_path: Path, dtype: str, name: str) -> None:
    voxels = ramp(dtype)
    image = nibabel.Nifti1Image(voxels, AFFINE, dtype=voxels.dtype.newbyteorder("="))
    if dtype.startswith(">"):
        image = nibabel.Nifti1Image(voxels, None, image.header.as_byteswapped(">"))
    nibabel.save(image, tmp_path / name)
    volume = read_scan([tmp_path / name])
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels[0], ramp())
    assert np.array_equal(volume.affine, AFFINE)
    assert volume.source == (tmp_path / name,)


def test_slope_and_intercept_are_applied_in_double_precision(tmp_path: Path) -> None:
    voxels = ramp(np.int32) + 16_777_217
    path = save(tmp_path / "scan.nii", voxels, scl_slope=0.1, scl_inter=-1_677_000)
    slope = float(np.float32(0.1))
    expected = (voxels * slope - 1_677_000).astype(np.float32)
    assert np.array_equal(read_scan([path]).voxels[0], expected)


def test_large_values_of_real_scans_survive(tmp_path: Path) -> None:
    voxels = ramp(np.float64)
    voxels[1, 2, 3] = 1_704_295
    path = save(tmp_path / "scan.nii", voxels)
    assert read_scan([path]).voxels.max() == 1_704_295


def test_channels_are_stacked_in_the_given_order(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.nii.gz", ramp() + 10 * i) for i in range(3)]
    volume = read_scan([paths[2], paths[0], paths[1]], channels=3)
    assert volume.voxels.shape == (3, *SHAPE)
    assert volume.voxels[:, 0, 0, 0].tolist() == [20, 0, 10]


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", ramp().reshape(*SHAPE, 1, 1))
    assert read_scan([path]).shape == SHAPE


@pytest.mark.parametrize("paths", [[], "scan.nii", Path("scan.nii")])
def test_paths_must_be_a_sequence_with_something_in_it(paths: Any) -> None:
    with pytest.raises(ValueError, match="give a sequence"):
        read_scan(paths)


@pytest.mark.parametrize("channels", [1, 3])
def test_another_number_of_channels_is_refused(tmp_path: Path, channels: int) -> None:
    paths = [save(tmp_path / f"{i}.nii", ramp()) for i in range(2)]
    with pytest.raises(InputError, match=f"expects {channels} channels? and 2 files"):
        read_scan(paths, channels=channels)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("removed", [1, 100, 239])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, removed: int) -> None:
    path = save(tmp_path / name, np.random.default_rng(0).integers(1, 999, SHAPE, np.int16))
    path.write_bytes(path.read_bytes()[:-removed])
    with pytest.raises(InputError, match="cut off") as refusal:
        read_scan([path])
    assert name in str(refusal.value)


def test_compressed_data_shorter_than_promised_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", ramp())
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-2], mtime=0))
    with pytest.raises(InputError, match="fewer voxels than its header promises"):
        read_scan([path])


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", ramp())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="incorrect data check"):
        read_scan([path])


def test_more_memory_than_there_is_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "scan.nii.gz", np.ones((256, 256, 128), np.uint8))

    empty = np.empty

    def refuse(shape: Any, *arguments: Any, **options: Any) -> Any:
        if np.prod(shape) > 1000:
            raise MemoryError
        return empty(shape, *arguments, **options)

    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(InputError, match=r"shape \(256, 256, 128\); 0.0312 GiB of memory"):
        read_scan([path])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_voxels_that_are_not_finite_are_counted_and_located(tmp_path: Path, value: float) -> None:
    voxels = ramp(np.float64)
    voxels[3, 1, 2] = voxels[0, 4, 5] = value
    path = save(tmp_path / "scan.nii", voxels)
    with pytest.raises(InputError, match=r"2 of 120 voxels .*scan\.nii .*first at \[3, 1, 2\]"):
        read_scan([path])


def test_an_empty_scan_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", np.zeros(SHAPE, np.int16))
    with pytest.raises(InputError, match=r"every voxel .* is zero; there is nothing to segment"):
        read_scan([path])


def test_an_empty_channel_beside_a_full_one_is_accepted(tmp_path: Path) -> None:
    empty = save(tmp_path / "empty.nii", np.zeros(SHAPE, np.int16))
    full = save(tmp_path / "full.nii", ramp())
    assert read_scan([empty, full]).voxels[0].max() == 0


def test_channels_of_another_shape_are_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.nii", ramp()), save(tmp_path / "b.nii", ramp()[:-1])]
    with pytest.raises(GeometryError, match=r"b\.nii has shape \(3, 5, 6\), .*a\.nii has"):
        read_scan(paths)


def test_a_rotation_shows_at_the_corners(tmp_path: Path) -> None:
    turned = AFFINE.copy()
    turned[0, 2] = 0.01
    paths = [save(tmp_path / "a.nii", ramp()), save(tmp_path / "b.nii", ramp(), turned)]
    (remark,) = read_scan(paths).remarks
    assert "b.nii lies up to 0.05 mm away from a.nii" in remark.what


def labels_for(volume: Volume, largest: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    labels = np.arange(np.prod(volume.shape)).reshape(volume.shape) % (largest + 1)
    return labels.astype(dtype)


PLACEMENT = [
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
]


@pytest.mark.parametrize(("qform_code", "sform_code"), [(0, 0), (1, 0), (0, 2), (1, 4), (3, 3)])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_label_maps_lie_exactly_where_the_scan_lies(
    tmp_path: Path, kind: Any, qform_code: int, sform_code: int
) -> None:
    oblique = AFFINE.copy()
    oblique[:3, :3] = nibabel.eulerangles.euler2mat(0.2, 0.1, -0.3) @ AFFINE[:3, :3]
    oblique[:3, 3] = (-80.5, 3.25, 1000.125)
    image = kind(ramp(), None)
    image.set_qform(oblique @ np.diag([1, -1, 1, 1]), qform_code)
    image.set_sform(oblique, sform_code)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "scan.nii.gz")
    volume = read_scan([tmp_path / "scan.nii.gz"])
    labels = labels_for(volume)
    write_label_map(tmp_path / "labels.nii.gz", labels, volume)

    scan, written = (nibabel.load(tmp_path / name) for name in ("scan.nii.gz", "labels.nii.gz"))
    assert type(written) is kind
    assert np.array_equal(written.affine, scan.affine)
    assert np.array_equal(written.get_qform(), scan.get_qform())
    assert np.array_equal(written.get_sform(), scan.get_sform())
    for name in PLACEMENT:
        assert np.array_equal(written.header[name], scan.header[name]), name
    assert np.array_equal(written.header["pixdim"][:4], scan.header["pixdim"][:4])
    assert np.array_equal(np.asanyarray(written.dataobj), labels)


def test_nothing_stale_is_taken_over(tmp_path: Path) -> None:
    path = save(
        tmp_path / "scan.nii",
        ramp(),
        **{"scl_slope": 2, "scl_inter": 7, "cal_max": 400, "cal_min": -5, "descrip": b"Name^Of"},
        **{"intent_code": 1001, "aux_file": b"other.nii", "slice_duration": 3},
    )
    write_label_map(tmp_path / "labels.nii", labels_for(volume := read_scan([path])), volume)
    written = nibabel.load(tmp_path / "labels.nii")
    with (tmp_path / "labels.nii").open("rb") as stream:
        stored = nibabel.Nifti1Header.from_fileobj(stream)
    assert stored.get_slope_inter() == (1.0, 0.0)
    for name in ("cal_max", "cal_min", "descrip", "intent_code", "aux_file", "slice_duration"):
        assert not written.header[name].item(), name
    assert written.get_data_dtype() == np.uint8


@pytest.mark.parametrize(("largest", "dtype"), [(0, "u1"), (255, "u1"), (256, "u2"), (999, "u2")])
def test_labels_take_the_smallest_type(tmp_path: Path, largest: int, dtype: str) -> None:
    volume = Volume(np.ones((1, 10, 10, 10), np.float32), AFFINE)
    labels = labels_for(volume, largest, np.uint32)
    write_label_map(tmp_path / "labels.nii.gz", labels, volume)
    written = nibabel.load(tmp_path / "labels.nii.gz")
    assert written.get_data_dtype() == dtype
    assert np.array_equal(np.asanyarray(written.dataobj), labels)


def test_a_scan_without_a_header_gives_its_affine(tmp_path: Path) -> None:
    volume = Volume(np.ones((1, *SHAPE), np.float32), AFFINE)
    write_label_map(tmp_path / "labels.nii", labels_for(volume), volume)
    written = nibabel.load(tmp_path / "labels.nii")
    assert np.array_equal(written.affine, AFFINE)
    assert written.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    ("name", "labels", "error", "complaint"),
    [
        ("labels.png", np.zeros(SHAPE, np.uint8), ValueError, "must end in .nii.gz, .nii, .nrrd"),
        ("labels.nii", np.zeros((4, 5, 7), np.uint8), ValueError, "the scan has"),
        ("labels.nii", np.zeros(SHAPE, np.int16), TypeError, "expected unsigned integers"),
        ("labels.nii", np.zeros(SHAPE, np.float32), TypeError, "expected unsigned integers"),
        ("labels.nii", np.full(SHAPE, 65536, np.uint32), ValueError, "largest label is 65536"),
    ],
)
def test_labels_that_cannot_be_written_are_refused(
    tmp_path: Path, name: str, labels: np.ndarray, error: type[Exception], complaint: str
) -> None:
    volume = Volume(np.ones((1, *SHAPE), np.float32), AFFINE)
    with pytest.raises(error, match=complaint):
        write_label_map(tmp_path / name, labels, volume)
    assert not [*tmp_path.iterdir()]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_image: Any, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_stream", fail)
    volume = Volume(np.ones((1, *SHAPE), np.float32), AFFINE)
    with pytest.raises(OSError, match="no space"):
        write_label_map(tmp_path / "labels.nii", labels_for(volume), volume)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "name",
    [
        "nibabel_monai/anatomical.nii",
        "nibabel_monai/reoriented_anat_moved.nii",
        "nibabel_monai/standard.nii.gz",
        "msd_spleen_crop/sub-spleen2_ct.nii.gz",
        "totalsegmentator/example_ct_sm.nii.gz",
    ],
)
def test_real_scans_are_read_and_their_grid_is_written(
    data_dir: Path, tmp_path: Path, name: str
) -> None:
    volume, scan = read_scan([data_dir / name]), nibabel.load(data_dir / name)
    assert np.array_equal(volume.voxels[0], scan.get_fdata().astype(np.float32))
    assert np.array_equal(volume.affine, scan.affine)
    write_label_map(tmp_path / "labels.nii.gz", labels_for(volume), volume)
    written = nibabel.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(written.affine, scan.affine)
    for field in PLACEMENT:
        assert np.array_equal(written.header[field], scan.header[field]), field


@pytest.mark.parametrize("name", ["example4d.nii.gz", "example_nifti2.nii.gz"])
def test_a_real_4d_file_is_refused_with_a_hint(data_dir: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"is 4-D.*one file for each channel"):
        read_scan([data_dir / "nibabel_monai" / name], channels=2)


def test_another_image_format_is_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match=r"test\.mgz is a FreeSurfer volume .* Run `mri_convert`"):
        read_scan([data_dir / "nibabel_monai" / "test.mgz"])
