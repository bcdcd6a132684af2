from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.manifest_cases import KIDNEY
from support.packages.samples import sample_manifest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from support.dicom_tools import dcmqi_volumes_ml, dicom_errors
from support.scans.ct_series import MARKS, SHAPE, SPACING_MM, write_ct_series

from segmaformer.runtime.results.dicom.measurement_report import write_measurement_report
from segmaformer.runtime.results.dicom.segmentation_object import (
    SegmentationType,
    segmentation_object,
)
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.dicom.scan import read_series
from segmaformer.runtime.spec import Label, Output, Region

NAMES = ("background", "left kidney", "absent", "liver")
LABELS = tuple(Label(value, name) for value, name in enumerate(NAMES))
REGIONS = (Region("whole", (1, 2, 3), 1), Region("core", (3,), 3))
VOXEL_ML = float(np.prod(SPACING_MM)) / 1000


def report_of(folder: Path, output: Output, kind: SegmentationType = "binary") -> Any:
    """Write a report of 70 and 6 voxels to report.dcm, and return it and its segmentation."""
    volume = read_series(write_ct_series(folder / "ct"))
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 3:8, 1:3], labels[5:8, 10:12, 2] = 1, 3
    codes = {} if output.regions else {"left kidney": KIDNEY}
    manifest = dataclasses.replace(sample_manifest(output=output), codes=codes)
    segmentation = Segmentation(labels, volume, manifest, "cpu", {}, package_sha256="ab" * 32)
    source = segmentation_object(segmentation, kind)
    write_measurement_report(folder / "report.dcm", segmentation, source)
    return pydicom.dcmread(folder / "report.dcm"), source


def test_the_report_is_valid(tmp_path: Path) -> None:
    report_of(tmp_path, Output(LABELS))
    assert dicom_errors(tmp_path / "report.dcm") == []


def test_dciodvfy_knows_no_segments_of_label_maps_and_finds_nothing_else(tmp_path: Path) -> None:
    report_of(tmp_path, Output(LABELS), "labelmap")
    assert set(dicom_errors(tmp_path / "report.dcm")) <= {
        "Error - Shall not be present for Referenced SOP Class that is not segmentation - "
        "attribute <ReferencedSegmentNumber>"
    }


@pytest.mark.parametrize(
    ("regions", "voxels"),
    [((), {"left kidney": 70, "absent": 0, "liver": 6}), (REGIONS, {"whole": 76, "core": 6})],
)
def test_dcmqi_reads_the_volume_of_every_segment(
    regions: tuple[Region, ...], voxels: dict[str, int], tmp_path: Path
) -> None:
    report_of(tmp_path, Output(LABELS, regions))
    expected = {name: count * VOXEL_ML for name, count in voxels.items()}
    assert dcmqi_volumes_ml(tmp_path / "report.dcm", tmp_path / "dcmqi") == pytest.approx(expected)


def test_every_group_refers_to_its_segment(tmp_path: Path) -> None:
    report, source = report_of(tmp_path, Output(LABELS))
    content = highdicom.sr.Comprehensive3DSR.from_dataset(report).content
    groups = content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == [*NAMES[1:]]
    for number, group in enumerate(groups, start=1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == source.SOPInstanceUID
        assert segment.referenced_segment_numbers == [number]
        (measurement,) = group.get_measurements()
        assert (measurement.name.value, measurement.unit.value) == ("118565006", "ml")
    assert groups[0].finding_type.value == "64033007"
    assert groups[0].finding_sites[0].laterality.meaning == "Left"


def test_the_identity_is_copied(tmp_path: Path) -> None:
    report, source = report_of(tmp_path, Output(LABELS))
    assert {keyword: str(report[keyword].value) for keyword in MARKS} == MARKS
    assert report.StudyInstanceUID == source.StudyInstanceUID == "1.2.3.1"
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    assert "UNKNOWN" not in str(report)
