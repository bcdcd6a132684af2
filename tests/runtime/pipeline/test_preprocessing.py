from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.pipeline.preprocessing import preprocess, restore_logits, restore_map
from segmaformer.runtime.scans.formats import read_scan, write_label_map
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Normalization, Preprocessing, Resampling, Spacing, Triple

AS_STORED = Normalization("none")
PERMUTATIONS: list[Triple] = [*itertools.permutations(range(3))]  # type: ignore[list-item]
FLIPS = [*itertools.product([1, -1], repeat=3)]


def spec(channels: int = 1, normalization: Normalization = AS_STORED, **options) -> Preprocessing:
    return Preprocessing(
        tuple(f"channel {index}" for index in range(channels)),
        (normalization,) * channels,
        **options,
    )


def scan(affine: np.ndarray, shape: Triple = (7, 6, 5)) -> Volume:
    """Make a scan with a box of distinct positive values, off the array's centre."""
    voxels = np.zeros((1, *shape), np.float32)
    inside = voxels[0, 1:6, 2:5, 1:4]
    inside[...] = np.random.default_rng(5).permutation(inside.size).reshape(inside.shape) + 1
    return Volume(voxels, affine)


def stored_differently(volume: Volume, axes: Triple, signs: tuple[int, ...]) -> Volume:
    """Store the same physical scan with permuted and flipped axes."""
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        to_old[old, new] = sign
        to_old[old, 3] = volume.shape[old] - 1 if sign < 0 else 0
    voxels = volume.voxels[0].transpose(axes)[tuple(slice(None, None, s) for s in signs)]
    return Volume(voxels[None].copy(), volume.affine @ to_old)


def oblique_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = nibabel.eulerangles.euler2mat(0.2, -0.3, 0.1) @ np.diag([0.8, 1.25, 3.0])
    affine[:3, 3] = (-12, 40, 7.5)
    return affine


def label_points(labels: np.ndarray, affine: np.ndarray) -> dict[int, tuple[float, ...]]:
    """Return the physical position of every label, for maps in which each occurs once."""
    return {
        int(labels[tuple(index)]): tuple(np.round(affine[:3] @ [*index, 1], 6))
        for index in np.argwhere(labels)
    }


@pytest.mark.parametrize("signs", FLIPS)
@pytest.mark.parametrize("axes", PERMUTATIONS)
@pytest.mark.parametrize("transpose_forward", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_storage_order_changes_neither_the_input_nor_the_result(
    axes: Triple, signs: tuple[int, ...], transpose_forward: Triple
) -> None:
    original = scan(oblique_affine())
    volume = stored_differently(original, axes, signs)
    options = spec(transpose_forward=transpose_forward)
    reference = preprocess(original, options)
    prepared = preprocess(volume, options)
    assert np.array_equal(prepared.image, reference.image)
    assert prepared.spacing_mm == reference.spacing_mm

    labels = restore_map(prepared.image[0].astype(np.uint8), prepared)
    assert np.array_equal(labels, volume.voxels[0])
    assert label_points(labels, volume.affine) == label_points(original.voxels[0], original.affine)


@pytest.mark.parametrize("transpose_forward", PERMUTATIONS)
def test_network_axes_are_the_transposed_reversed_axes(transpose_forward: Triple) -> None:
    volume = Volume(
        np.random.default_rng(0).random((2, 3, 4, 5), np.float32), np.diag([1, 2, 3, 1.0])
    )
    options = spec(2, transpose_forward=transpose_forward, crop_to_nonzero=False)
    prepared = preprocess(volume, options)
    zyx = volume.voxels.transpose(0, 3, 2, 1)
    expected = zyx.transpose(0, *(axis + 1 for axis in transpose_forward))
    assert np.array_equal(prepared.image, expected)
    assert prepared.spacing_mm == tuple((3.0, 2.0, 1.0)[axis] for axis in transpose_forward)
    assert prepared.scan_spacing_mm == prepared.spacing_mm
    assert prepared.uncropped_shape == prepared.cropped_shape == expected.shape[1:]


def test_without_an_orientation_voxels_stay_in_stored_order() -> None:
    volume = stored_differently(scan(np.eye(4)), (1, 2, 0), (-1, 1, -1))
    prepared = preprocess(volume, spec(orientation=None, crop_to_nonzero=False))
    assert np.array_equal(prepared.image, volume.voxels.transpose(0, 3, 2, 1))


def test_lps_is_ras_with_two_axes_reversed() -> None:
    volume = scan(np.eye(4))
    ras = preprocess(volume, spec(crop_to_nonzero=False)).image
    lps = preprocess(volume, spec(crop_to_nonzero=False, orientation="LPS")).image
    assert np.array_equal(lps, ras[:, :, ::-1, ::-1])


def test_cropping_keeps_the_content_and_its_place() -> None:
    prepared = preprocess(scan(np.eye(4)), spec())
    assert prepared.box == (slice(1, 4), slice(2, 5), slice(1, 6))
    assert prepared.cropped_shape == prepared.image.shape[1:] == (3, 3, 5)
    assert prepared.uncropped_shape == (5, 6, 7)
    assert prepared.image.all()


def test_statistics_are_those_of_the_cropped_scan() -> None:
    volume = scan(np.eye(4))
    image = preprocess(volume, spec(normalization=Normalization("zscore"))).image
    assert image.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert image.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("crop_to_nonzero", [True, False])
def test_masked_statistics_ignore_zeros_around_the_content(crop_to_nonzero: bool) -> None:
    volume = scan(np.eye(4))
    volume.voxels[0, 0, 0, 0] = 3  # so that the box holds zeros as well
    content = volume.voxels[volume.voxels > 0].astype(np.float64)
    masked = Normalization("zscore", use_mask=True)
    prepared = preprocess(volume, spec(normalization=masked, crop_to_nonzero=crop_to_nonzero))
    values = prepared.image[prepared.image != 0]
    assert len(values) == len(content)
    expected = (content - content.mean()) / content.std()
    np.testing.assert_allclose(np.sort(values), np.sort(expected), atol=1e-5)


def test_each_channel_has_its_own_normalization() -> None:
    voxels = np.random.default_rng(1).uniform(1, 9, (2, 4, 4, 4)).astype(np.float32)
    options = Preprocessing(("a", "b"), (AS_STORED, Normalization("rescale01")))
    image = preprocess(Volume(voxels, np.eye(4)), options).image
    assert np.array_equal(image[0], voxels[0].transpose(2, 1, 0))
    assert (image[1].min(), image[1].max()) == (0, 1)


def test_the_scan_itself_is_not_changed() -> None:
    volume = scan(np.eye(4))
    before = volume.voxels.copy()
    preprocess(volume, spec(normalization=Normalization("zscore"), spacing=(2.0, 2.0, 2.0)))
    assert np.array_equal(volume.voxels, before)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"has 1 channels; the model expects 2.*channel 0, channel 1"
    ):
        preprocess(scan(np.eye(4)), spec(2))


def test_an_empty_scan_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to segment"):
        preprocess(Volume(np.zeros((1, 3, 3, 3), np.float32), np.eye(4)), spec())


def test_arrays_of_another_grid_are_not_restored() -> None:
    prepared = preprocess(scan(np.eye(4)), spec(spacing=(0.5, 1.0, 1.0)))
    assert prepared.image.shape == (1, 6, 3, 5)
    with pytest.raises(ValueError, match=r"\(3, 3, 5\); expected \(6, 3, 5\)"):
        restore_logits(np.zeros((2, 3, 3, 5), np.float32), prepared, Resampling())
    with pytest.raises(ValueError, match=r"\(6, 3, 5\); expected \(3, 3, 5\)"):
        restore_map(np.zeros((6, 3, 5), np.uint8), prepared)


@settings(max_examples=40)
@given(
    shape=st.tuples(*[st.integers(2, 12)] * 3),
    scan_spacing_mm=st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 5.0])] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 3.0])] * 3),
    transpose_forward=st.sampled_from(PERMUTATIONS),
    codes=st.sampled_from(["RAS", "LPS", "ASL", None]),
)
def test_logits_return_to_the_grid_of_the_scan(
    shape: Triple,
    scan_spacing_mm: Spacing,
    spacing: Spacing,
    transpose_forward: Triple,
    codes: str | None,
) -> None:
    volume = Volume(np.ones((1, *shape), np.float32), np.diag([*scan_spacing_mm, 1.0]))
    options = spec(orientation=codes, transpose_forward=transpose_forward, spacing=spacing)
    prepared = preprocess(volume, options)
    extent = np.multiply(prepared.cropped_shape, prepared.scan_spacing_mm)
    expected = np.maximum(np.rint(extent / spacing), 1)
    assert np.abs(prepared.image.shape[1:] - expected).max() <= 1
    logits = np.stack([prepared.image[0], -prepared.image[0]])
    restored = restore_logits(logits, prepared, options.logits_resampling)
    assert restored.shape == (2, *prepared.cropped_shape)
    assert restored.dtype == np.float32
    labels = restore_map((restored[0] > 0).astype(np.uint8), prepared)
    assert labels.shape == shape
    assert labels.all()


def test_logits_are_resampled_from_the_network_spacing_to_that_of_the_scan() -> None:
    """Both are anisotropic, so the one that is left decides which axis is separate."""
    volume = Volume(np.ones((1, 4, 8, 12), np.float32), np.diag([6.0, 1.0, 1.0, 1.0]))
    prepared = preprocess(volume, spec(spacing=(6.0, 1.0, 1.0)))
    logits = np.random.default_rng(2).random((2, *prepared.image.shape[1:]), np.float32)
    restored = restore_logits(logits, prepared, Resampling(1))
    depth = np.floor((np.arange(12) + 0.5) / 6).astype(int)
    columns = (np.arange(4) * 6 + 2, np.arange(4) * 6 + 3)
    expected = (logits[..., columns[0]] + logits[..., columns[1]]) / 2
    np.testing.assert_allclose(restored, expected[:, depth], atol=1e-6)


def test_a_half_space_survives_the_way_there_and_back() -> None:
    """A plane between voxels stays where it is, on a finer and on a coarser grid."""
    voxels = np.ones((1, 20, 16, 12), np.float32)
    voxels[:, 10:] = 3
    volume = Volume(voxels, np.diag([1.0, 1.0, 4.0, 1.0]))
    for spacing in [(2.0, 0.5, 0.5), (4.0, 2.0, 2.0)]:
        prepared = preprocess(volume, spec(spacing=spacing, resampling=Resampling(1)))
        logits = (prepared.image - 2).astype(np.float32)
        restored = restore_logits(logits, prepared, Resampling(1))
        labels = restore_map((restored[0] > 0).astype(np.uint8), prepared)
        assert np.array_equal(labels, voxels[0] > 2)


def smallest_overlap(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + second.sum())


def test_a_real_segmentation_survives_resampling(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "msd_spleen_crop"
    volume = read_scan([folder / "sub-spleen2_ct.nii.gz"])
    manual = nibabel.load(folder / "sub-spleen2_ct_seg-manual.nii.gz")
    spleen = np.asanyarray(manual.dataobj) > 0
    marked = Volume(np.where(spleen, 1, -1).astype(np.float32)[None], volume.affine)
    prepared = preprocess(marked, spec(spacing=(1.5, 1.0, 1.0), transpose_forward=(1, 0, 2)))
    assert prepared.scan_spacing_mm == pytest.approx((0.794922, 5.0, 0.794922))
    restored = restore_logits(prepared.image, prepared, Resampling(1))
    labels = restore_map((restored[0] > 0).astype(np.uint8), prepared)
    assert smallest_overlap(labels > 0, spleen) > 0.97
    write_label_map(tmp_path / "labels.nii.gz", labels, volume)
    assert np.array_equal(nibabel.load(tmp_path / "labels.nii.gz").affine, manual.affine)


def test_a_real_scan_against_the_steps_written_out(data_dir: Path) -> None:
    resize = pytest.importorskip("skimage.transform").resize
    volume = read_scan([data_dir / "msd_spleen_crop" / "sub-spleen2_ct.nii.gz"])
    ct = Normalization("ct", mean=99.3, std=39.5, lower=-41.0, upper=176.0)
    prepared = preprocess(volume, spec(normalization=ct, spacing=(2.5, 1.0, 1.0)))

    zyx = (np.clip(volume.voxels[0].transpose(2, 1, 0).astype(float), -41, 176) - 99.3) / 39.5
    in_plane = [resize(plane, (132, 130), 3, mode="edge", anti_aliasing=False) for plane in zyx]
    nearest = np.floor(26 / 52 * (np.arange(52) + 0.5)).astype(int)
    assert prepared.image.shape == (1, 52, 132, 130)
    np.testing.assert_allclose(prepared.image[0], np.stack(in_plane)[nearest], atol=2e-6)


@pytest.mark.parametrize("name", ["anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"])
def test_real_corner_cases_come_back_voxel_for_voxel(
    data_dir: Path, tmp_path: Path, name: str
) -> None:
    """Big-endian, left-handed, moved: thresholded voxels are their own label map."""
    volume = read_scan([data_dir / "nibabel_monai" / name])
    level = float(np.median(volume.voxels))
    prepared = preprocess(volume, spec(transpose_forward=(2, 0, 1)))
    labels = restore_map((prepared.image[0] > level).astype(np.uint8), prepared)
    write_label_map(tmp_path / "labels.nii.gz", labels, volume)
    written = nibabel.load(tmp_path / "labels.nii.gz")
    inside = volume.voxels[0] > level
    inside &= np.asanyarray(written.dataobj) >= 0
    assert np.array_equal(np.asanyarray(written.dataobj) > 0, inside)
    assert np.array_equal(written.affine, nibabel.load(data_dir / "nibabel_monai" / name).affine)


def test_a_nifti_2_scan_comes_back_as_nifti_2(data_dir: Path, tmp_path: Path) -> None:
    whole = nibabel.load(data_dir / "nibabel_monai" / "example_nifti2.nii.gz")
    for index in range(2):
        nibabel.save(whole.slicer[..., index], tmp_path / f"{index}.nii.gz")
    volume = read_scan([tmp_path / "0.nii.gz", tmp_path / "1.nii.gz"], channels=2)
    prepared = preprocess(volume, spec(2, Normalization("zscore")))
    labels = restore_map((prepared.image.sum(axis=0) > 0).astype(np.uint8), prepared)
    write_label_map(tmp_path / "labels.nii", labels, volume)
    written = nibabel.load(tmp_path / "labels.nii")
    assert isinstance(written, nibabel.Nifti2Image)
    assert np.array_equal(written.affine, whole.affine)
    assert written.shape == whole.shape[:3]


def test_an_axis_without_a_spacing_keeps_the_scans() -> None:
    volume = scan(np.diag([0.5, 2.0, 3.0, 1.0]))
    prepared = preprocess(volume, spec(spacing=(None, 1.0, 1.0), crop_to_nonzero=False))
    assert prepared.spacing_mm == (3.0, 1.0, 1.0)
    assert prepared.image.shape == (1, 5, 12, 4)
