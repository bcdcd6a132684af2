"""Real series with their right answers: shape, spacing, place and mean, and refusals."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("pydicom")

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.scan import read_series
from segmaformer.runtime.scans.dicom.series import DicomSeries

MR_CODED = ((4, 256, 256), (1, 1, 1), "1 0 0 100.7942; 0 1 0 -93.9253; 0 0 1 -124.9487", 127.0475)
GE = ((64, 64, 4), (3, 3, 3.6), "3 0 0 -94; 0 3 0 -76.999; 0 0 3.6 -61.2995", None)
VOLUMES = {
    "dicom/ct_tilt_14": (
        (512, 512, 4),
        (0.41797, 0.41797, 5),
        "0.4180 0 0 -106.791; 0 0.4056 0 49.3811; 0 0.1011 5.0000 -113.6221",
        -897.07,
    ),
    "dicom/ct_tilt_minus18": (
        (512, 512, 6),
        (0.48242, 0.48242, 2.5),
        "0.4824 0 0 -123.0176; 0 0.4575 0 -218.1375; 0 0.1531 2.5000 714.124",
        -837.91,
    ),
    "dicom/enh_mr_philips": (
        (8, 256, 256),
        (1.2, 1, 1),
        "1.2 0 0 -100.2936; 0 1 0 -104.3954; 0 0 1 -138.0508",
        541.541,
    ),
    "dicom/enh_mr_siemens": (
        (256, 256, 8),
        (0.9375, 0.9375, 0.89998),
        "0.9367 -0.0034 0.0364 -120.9715; 0.0026 0.9373 0.0198 -138.0373; "
        "-0.0380 -0.0205 0.8990 -85.6652",
        127.055,
    ),
    "dicom/enh_ct_2frames": (
        (512, 512, 2),
        (0.38867, 0.38867, 10),
        "0.3887 0 0 -99.5; 0 0.3887 0 102.8886; 0 0 10 -159",
        -643.962,
    ),
    "dicom/mr_jpegls": MR_CODED,
    "dicom/mr_jpeg_lossless": MR_CODED,
    "dicom/mr_rle": MR_CODED,
    "dicom2nifti/generic/compressed_j2k/001": MR_CODED,
    "dicom/study_mixed": (
        (512, 512, 5),
        (0.45117, 0.45117, 5),
        "0.4512 0 0 -115.0488; 0 0.4512 0 -228.6988; 0 0 5 696.21",
        -802.135,
    ),
    "dicom2nifti/generic/anatomical/002_non_isotropic": ((64, 28, 4), (6.4, 4, 0.5), None, 51.60),
    "torchio_dicom": (
        (88, 128, 17),
        (2, 2, 2),
        "2 0 0 -82.1807; 0 2 0 -122.163; 0 0 2 -24.707",
        None,
    ),
    "totalsegmentator/example_ct_dicom": (
        (512, 512, 20),
        (0.9766, 0.9766, 2),
        "0.9766 0 0 -249.5117; 0 0.9766 0 -61.5117; 0 0 2 -804.5",
        -624.13,
    ),
    "dcmqi/segmentations/ct-3slice": ((512, 512, 3), (0.8105, 0.8105, 1), None, None),
}
"""Canonical shape, spacing in mm, affine and mean of each folder."""

REFUSED = {
    "dicom/ct_same_position": "one position has several images",
    "dicom/mr_two_orientations": "2 usable series.*288x288x2, --where SeriesNumber=202.*"
    "288x288x2, --where SeriesNumber=501",
    "dicom/mosaic_siemens": "mosaic",
    "dicom/mr_two_timepoints_ge": "one position has several images.*"
    r"--where InstanceNumber=1\.\.4, or --where InstanceNumber=43\.\.46",
    "dicom/rgb_j2k": "in colour",
    "dicom/codecs": "it has 10 frames, and does not say where each of them lies",
    "dicom2nifti/failing/sliceincrement/001": "gaps between 4 images are not equal: from 5 to 10",
    "dicom2nifti/failing/sliceincrement/002": "gaps between 4 images are not equal",
    "nibabel_monai/CT_DICOM": "gaps between 4 images are not equal",
    "dicom/codecs/HTJ2KLossless_08_RGB.dcm": "in colour",
    "dicom/codecs/JLSL_16_15_1_1F.dcm": "secondary capture",
    "dicom/codecs/liver_deflate.dcm": "a segmentation",
    "highdicom/ct_image.dcm": "a single image",
    "highdicom/seg_image_ct_binary.dcm": "a segmentation",
}


def matrix(rows: str) -> np.ndarray:
    return np.array([[float(number) for number in row.split()] for row in rows.split(";")])


def canonical(folder: Path, *where: str) -> tuple[nibabel.Nifti1Image, DicomSeries]:
    volume = read_series(folder, where=where)
    assert isinstance(volume.header, DicomSeries)
    image = nibabel.Nifti1Image(volume.voxels[0], volume.affine)
    return nibabel.as_closest_canonical(image), volume.header


@pytest.mark.parametrize("name", VOLUMES)
def test_series_have_the_right_place_and_intensities(name: str, data_dir: Path) -> None:
    shape, spacing_mm, rows, mean = VOLUMES[name]
    image, _ = canonical(data_dir / name)
    assert image.shape == shape
    np.testing.assert_allclose(image.header.get_zooms(), spacing_mm, atol=1e-3)
    if rows is not None:
        np.testing.assert_allclose(image.affine[:3], matrix(rows), atol=1e-3)
    if mean is not None:
        assert float(image.get_fdata().mean()) == pytest.approx(mean, abs=6e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_volume_is_refused_with_its_cause(name: str, data_dir: Path) -> None:
    with pytest.raises(InputError, match=f"(?s){REFUSED[name]}"):
        read_series(data_dir / name)


@pytest.mark.parametrize("name", ["mr_two_timepoints_ge", "mr_two_orientations"])
def test_the_named_condition_chooses(name: str, data_dir: Path) -> None:
    folder = data_dir / "dicom" / name
    with pytest.raises(InputError) as error:
        read_series(folder)
    conditions = re.findall(r"--where (\w+=[\d.]*\d)", str(error.value))
    assert len(conditions) == 2
    for condition in conditions:
        image, _ = canonical(folder, condition)
        if name == "mr_two_timepoints_ge":
            shape, spacing_mm, rows, _ = GE
            assert image.shape == shape
            np.testing.assert_allclose(image.header.get_zooms(), spacing_mm, atol=1e-3)
            np.testing.assert_allclose(image.affine[:3], matrix(rows), atol=1e-3)
        else:
            assert sorted(image.shape) == [2, 288, 288]


@pytest.mark.parametrize(("name", "degrees"), [("ct_tilt_14", 14), ("ct_tilt_minus18", 18.5)])
def test_tilt_is_an_exact_shear(name: str, degrees: float, data_dir: Path) -> None:
    volume = read_series(data_dir / "dicom" / name)
    series = volume.header
    assert series.tilt_degrees == pytest.approx(degrees, abs=0.01)
    for index, image in enumerate(series.slices):
        x, y, z, _ = volume.affine @ (0, 0, index, 1)
        assert (-x, -y, z) == pytest.approx(image.position_mm, abs=1e-6)


def test_uids_survive_in_the_file_meta_information(data_dir: Path) -> None:
    series = read_series(data_dir / "totalsegmentator" / "example_ct_dicom").header
    assert (series.study_uid, series.series_uid) == ("", "")
    assert len({image.sop_instance_uid for image in series.slices}) == 20
    assert all(image.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2" for image in series.slices)
    assert series.dataset(3).SOPInstanceUID == ""


def test_frames_are_numbered_from_one(data_dir: Path) -> None:
    series = read_series(data_dir / "dicom" / "enh_mr_philips").header
    assert sorted(image.frame_number for image in series.slices) == [*range(1, 9)]
    assert series.dataset().Modality == series.modality == "MR"
