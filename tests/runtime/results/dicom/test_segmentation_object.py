from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.manifest_cases import KIDNEY
from support.packages.samples import sample_manifest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from support.dicom_tools import dcmqi_label_map, dicom_errors
from support.scans.ct_series import MARKS, SHAPE, SPACING_MM, write_ct_series

from segmaformer.runtime.errors import InputError, SgmfError
from segmaformer.runtime.results.dicom.segmentation_object import (
    SegmentationType,
    segmentation_object,
    write_segmentation_object,
)
from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.dicom.scan import read_series
from segmaformer.runtime.scans.formats import read_labels, write_label_map
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Output, Region

HASH = "0123456789abcdef" * 4
KINDS: tuple[SegmentationType, ...] = ("binary", "labelmap")
NAMES = ("background", "left kidney", "absent", "liver")
OUTPUT = Output(tuple(Label(value, name) for value, name in enumerate(NAMES)))
REGIONS = (Region("whole", (1, 2, 3), 1), Region("core", (3,), 3))


def some_labels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 3:8, 1:3] = 1
    labels[5:8, 10:12, 2] = 3
    return labels


def segmented(volume: Volume, labels: np.ndarray, output: Output = OUTPUT) -> Segmentation:
    codes = {} if output.regions else {"left kidney": KIDNEY}
    manifest = dataclasses.replace(sample_manifest(output=output), codes=codes)
    return Segmentation(labels, volume, manifest, "cpu", {}, package_sha256=HASH)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return read_series(write_ct_series(tmp_path / "ct"))


def segment_masks(result: Any) -> dict[tuple[int, float], np.ndarray]:
    """Return the frames of a binary segmentation by segment and position along z."""
    frames = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    places = [
        (
            item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            float(item.PlanePositionSequence[0].ImagePositionPatient[2]),
        )
        for item in result.PerFrameFunctionalGroupsSequence
    ]
    return dict(zip(places, frames, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(volume: Volume, kind: SegmentationType, tmp_path: Path) -> None:
    write_segmentation_object(tmp_path / "seg.dcm", segmented(volume, some_labels()), kind)
    assert dicom_errors(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("series", ["made", "study_mixed", "enh_ct_2frames"])
def test_dcmqi_reads_the_voxels_and_the_place_of_the_nrrd(
    series: str, kind: SegmentationType, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    if series == "made":
        volume = request.getfixturevalue("volume")
    else:
        volume = read_series(request.getfixturevalue("data_dir") / "dicom" / series)
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:9, 3:8, :2], labels[5:8, 10:12, 1] = 1, 3
    write_segmentation_object(tmp_path / "seg.dcm", segmented(volume, labels), kind)
    write_label_map(tmp_path / "seg.nrrd", labels, volume)
    assert dicom_errors(tmp_path / "seg.dcm") == []
    found = dcmqi_label_map(tmp_path / "seg.dcm", tmp_path / "dcmqi")
    expected = sitk.ReadImage(str(tmp_path / "seg.nrrd"))
    # dcmqi leaves out what it finds no frame for behind the last one.
    values = sitk.GetArrayFromImage(found)
    assert np.array_equal(values, sitk.GetArrayFromImage(expected)[: len(values)])
    for measure in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(
            getattr(found, measure)(), getattr(expected, measure)(), atol=1e-4
        )


def test_a_binary_frame_lies_on_its_slice(volume: Volume) -> None:
    labels = some_labels()
    masks = segment_masks(segmentation_object(segmented(volume, labels), "binary"))
    assert sorted(masks) == [(1, 102.5), (1, 105.0), (3, 105.0)]
    for (number, z), mask in masks.items():
        assert np.array_equal(mask, number == labels[:, :, round((z - 100) / SPACING_MM[2])].T)


def test_a_tilted_series_has_every_frame_on_its_slice(data_dir: Path) -> None:
    volume = read_series(data_dir / "dicom/ct_tilt_minus18")
    labels = np.zeros(volume.shape, np.uint8)
    labels[100:200, 50:90] = 1
    result = segmentation_object(segmented(volume, labels), "binary")
    found = [
        tuple(map(float, item.PlanePositionSequence[0].ImagePositionPatient))
        for item in result.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(found) == sorted(each.position_mm for each in volume.header.slices)


def test_the_label_map_type_has_a_frame_for_every_slice(volume: Volume) -> None:
    labels = some_labels()
    result = segmentation_object(segmented(volume, labels), "labelmap")
    assert result.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert result.file_meta.TransferSyntaxUID.name == "RLE Lossless"
    places = [
        float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        for item in result.PerFrameFunctionalGroupsSequence
    ]
    assert np.array_equal(result.pixel_array[np.argsort(places)], labels.T)


def test_geometry_is_that_of_the_positions(volume: Volume) -> None:
    result = segmentation_object(segmented(volume, some_labels()), "binary")
    (groups,) = result.SharedFunctionalGroupsSequence
    (measures,) = groups.PixelMeasuresSequence
    assert [*measures.PixelSpacing] == [SPACING_MM[1], SPACING_MM[0]]
    # The files' SliceThickness of 1 mm is not the distance of slices.
    assert measures.SliceThickness == measures.SpacingBetweenSlices == SPACING_MM[2]
    orientation = groups.PlaneOrientationSequence[0].ImageOrientationPatient
    assert [*orientation] == [1, 0, 0, 0, 1, 0]


def test_absent_labels_are_described_too(volume: Volume) -> None:
    result = segmentation_object(segmented(volume, some_labels()), "binary")
    assert [each.SegmentLabel for each in result.SegmentSequence] == [*NAMES[1:]]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_result_is_written(volume: Volume, kind: SegmentationType, tmp_path: Path) -> None:
    segmentation = segmented(volume, np.zeros(SHAPE, np.uint8))
    result = write_segmentation_object(tmp_path / "seg.dcm", segmentation, kind)
    assert not result.pixel_array.any()
    assert len(result.SegmentSequence) - (kind == "labelmap") == 3
    assert dicom_errors(tmp_path / "seg.dcm") == []


def test_segments_carry_code_colour_and_origin(volume: Volume) -> None:
    result = segmentation_object(segmented(volume, some_labels()), "binary")
    kidney, _, liver = result.SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodeMeaning) == ("64033007", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99SGMF"
    for segment, colour in zip(result.SegmentSequence, label_colours(3).tolist(), strict=True):
        encoded = tuple(segment.RecommendedDisplayCIELabValue)
        assert encoded == tuple(highdicom.color.CIELabColor.from_rgb(*colour).value)
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("sample", HASH)
        assert algorithm.AlgorithmParameters == "licence=CC BY 4.0"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"


def test_regions_overlap(volume: Volume, tmp_path: Path) -> None:
    labels = some_labels()
    output = Output(OUTPUT.labels, REGIONS)
    result = write_segmentation_object(tmp_path / "s.dcm", segmented(volume, labels, output))
    assert result.SegmentsOverlap == "YES"
    assert [each.SegmentLabel for each in result.SegmentSequence] == ["whole", "core"]
    masks = segment_masks(result)
    assert np.array_equal(masks[1, 105.0], labels[:, :, 2].T > 0)
    assert np.array_equal(masks[2, 105.0], labels[:, :, 2].T == 3)
    assert dicom_errors(tmp_path / "s.dcm") == []


def test_regions_are_refused_as_a_label_map(volume: Volume) -> None:
    segmentation = segmented(volume, some_labels(), Output(OUTPUT.labels, REGIONS))
    with pytest.raises(ValueError, match=r"regions of this package overlap.*type binary"):
        segmentation_object(segmentation, "labelmap")


def test_patient_and_study_are_copied_and_nothing_else(volume: Volume) -> None:
    result = segmentation_object(segmented(volume, some_labels()), "binary")
    assert {keyword: str(result[keyword].value) for keyword in MARKS} == MARKS
    assert (result.PatientSex, result.StudyDate, result.StudyTime) == ("O", "20200102", "030405")
    assert (result.StudyID, result.AccessionNumber) == ("S7", "A9")
    assert (result.StudyInstanceUID, result.FrameOfReferenceUID) == ("1.2.3.1", "1.2.3.3")
    assert result.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.2"
    assert "PatientWeight" not in result
    text = str(result)
    for other in ("Physician^Pat", "Nowhere", "UNKNOWN"):
        assert other not in text


def test_empty_identification_stays_empty(tmp_path: Path) -> None:
    changes = {"PatientName": "", "PatientID": None, "PatientSex": None, "StudyDate": ""}
    volume = read_series(write_ct_series(tmp_path / "ct", changes=changes))
    result = segmentation_object(segmented(volume, some_labels()), "binary")
    assert [str(result[each].value or "") for each in changes] == [""] * 4
    assert "UNKNOWN" not in str(result)


def test_names_of_other_alphabets_are_kept(tmp_path: Path) -> None:
    changes = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"}
    volume = read_series(write_ct_series(tmp_path / "ct", changes=changes))
    write_segmentation_object(tmp_path / "seg.dcm", segmented(volume, some_labels()))
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == "Müller^Jürgen"


def test_faulty_identification_is_copied_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faults = {"PatientSex": "MARK", "PatientBirthDate": "17 August", "PatientID": "M" * 70}
        volume = read_series(write_ct_series(tmp_path / "ct", changes=faults))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_segmentation_object(tmp_path / "seg.dcm", segmented(volume, some_labels()))
    assert "".join(capfd.readouterr()) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pydicom.dcmread(tmp_path / "seg.dcm").PatientSex == "MARK"


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"]
)
def test_empty_uids_are_named_and_nothing_is_written(keyword: str, tmp_path: Path) -> None:
    volume = read_series(write_ct_series(tmp_path / "ct", changes={keyword: ""}))
    with pytest.raises(InputError, match=rf"the series has no {keyword}.*\.nii\.gz"):
        write_segmentation_object(tmp_path / "seg.dcm", segmented(volume, some_labels()))
    assert not (tmp_path / "seg.dcm").exists()
    segmented(volume, some_labels()).save(tmp_path / "seg.nii.gz")
    assert np.array_equal(read_labels(tmp_path / "seg.nii.gz").voxels[0], some_labels())


def test_a_scan_of_another_format_is_refused() -> None:
    volume = Volume(np.ones((1, *SHAPE), np.float32), np.eye(4))
    with pytest.raises(InputError, match="the scan is no DICOM series"):
        segmentation_object(segmented(volume, some_labels()), "binary")


def test_frames_of_a_file_are_referred_to_by_number(data_dir: Path) -> None:
    volume = read_series(data_dir / "dicom/enh_ct_2frames")
    labels = np.zeros(volume.shape, np.uint8)
    labels[9:50, 9:50] = 1
    result = segmentation_object(segmented(volume, labels), "binary")
    slices = {each.position_mm[2]: each for each in volume.header.slices}
    for item in result.PerFrameFunctionalGroupsSequence:
        each = slices[float(item.PlanePositionSequence[0].ImagePositionPatient[2])]
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == each.sop_instance_uid
        assert source.ReferencedSOPClassUID == each.sop_class_uid
        assert source.ReferencedFrameNumber == each.frame_number
    assert len(result.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_what_a_library_says_is_kept_out_of_the_error(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError(MARKS["PatientID"])

    monkeypatch.setattr(highdicom.seg, "Segmentation", fail)
    with pytest.raises(SgmfError) as caught:
        segmentation_object(segmented(volume, some_labels()), "binary")
    assert MARKS["PatientID"] not in str(caught.value)
    assert "KeyError in highdicom" in str(caught.value)


def test_a_file_name_decides(volume: Volume, tmp_path: Path) -> None:
    segmented(volume, some_labels()).save(tmp_path / "seg.dcm")
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentationType == "BINARY"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["seg.dcm"]
