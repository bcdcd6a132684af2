"""``sgmf infer`` of DICOM series: segmentations, reports, and what they must not reveal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.manifest_cases import CODES
from support.packages.samples import copy_package, edit_manifest, head_like, write_scan
from support.packages.small_packages import write_region_package

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
SimpleITK = pytest.importorskip("SimpleITK")

from support.dicom_tools import dcmqi_label_map, dcmqi_volumes_ml, dicom_errors
from support.scans.ct_series import MARKS, write_ct_series

Sgmf = Callable[..., Any]
EXTENTS = (26, 22, 18)
HIDDEN = [*MARKS.values(), "Quimby", "Zelda"]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_ct_series(tmp_path / "ct", _voxels())


def _voxels() -> np.ndarray:
    return (head_like(EXTENTS) * 100).astype(np.int16)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", [None, "binary", "labelmap"])
def test_a_series_gives_a_segmentation_beside_it(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, kind: str | None
) -> None:
    options = [] if kind is None else ["--segmentation-type", kind]
    run = sgmf("infer", series, "-m", tiny_package_path, *options)
    output = series.with_name("ct_seg.dcm")
    assert (run.code, run.stdout) == (0, f"{output}\n")
    assert names(series.parent) == ["ct", "ct_seg.dcm", "ct_seg.run.json"]
    assert pydicom.dcmread(output).SegmentationType == (kind or "binary").upper()
    assert dicom_errors(output) == []


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_dcmqi_reads_what_the_nrrd_holds(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, tmp_path: Path, kind: str
) -> None:
    model = ("-m", tiny_package_path)
    seg, nrrd = tmp_path / "s.dcm", tmp_path / "s.nrrd"
    assert sgmf("infer", series, *model, "-o", nrrd).code == 0
    assert sgmf("infer", series, *model, "-o", seg, "--segmentation-type", kind).code == 0
    expected = SimpleITK.ReadImage(str(nrrd))
    labels = SimpleITK.GetArrayFromImage(expected)
    assert labels.any()
    found = dcmqi_label_map(seg, tmp_path / "dcmqi")
    place = expected.TransformPhysicalPointToIndex(found.GetOrigin())
    planes = slice(place[2], place[2] + found.GetSize()[2])
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), labels[planes])
    assert np.count_nonzero(labels[planes]) == np.count_nonzero(labels)
    np.testing.assert_allclose(found.GetSpacing(), expected.GetSpacing(), atol=1e-4)
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-6)


def test_the_report_has_the_volumes_of_the_statistics(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, tmp_path: Path
) -> None:
    run = sgmf("infer", series, "-m", tiny_package_path, "--dicom-report", "--json")
    (result,) = json.loads(run.stdout)["results"]
    report = tmp_path / "ct_seg_volumes.dcm"
    assert result["dicom_report"] == str(report)
    assert dicom_errors(report) == []
    expected = {
        label["name"]: label["volume_mm3"] / 1000 for label in result["statistics"]["labels"]
    }
    assert dcmqi_volumes_ml(report, tmp_path / "dcmqi") == pytest.approx(expected)


def test_the_record_lets_a_run_resume(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, tmp_path: Path
) -> None:
    command = ("infer", series, "-m", tiny_package_path, "--resume", "--json")
    assert sgmf(*command).code == 0
    first = (tmp_path / "ct_seg.dcm").read_bytes()
    assert json.loads(sgmf(*command).stdout)["results"][0]["skipped"]
    assert (tmp_path / "ct_seg.dcm").read_bytes() == first
    other = json.loads(sgmf(*command, "--segmentation-type", "labelmap").stdout)["results"][0]
    assert "skipped" not in other


def test_labels_without_a_code_are_told_and_labels_with_one_are_coded(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, tmp_path: Path
) -> None:
    package = copy_package(tiny_package_path, tmp_path / "coded.sgmf")
    codes = json.dumps({"anterior": CODES})
    edit_manifest(package, '"codes": {}', f'"codes": {codes}')
    run = sgmf("infer", series, "-m", package)
    assert run.code == 0
    assert "the package has no code for posterior;" in run.stderr
    segments = pydicom.dcmread(tmp_path / "ct_seg.dcm").SegmentSequence
    assert segments[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == CODES["type"]["value"]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_series_without_uids_is_refused_and_nifti_works(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path, keyword: str
) -> None:
    series = write_ct_series(tmp_path / "ct", _voxels(), changes={keyword: ""})
    run = sgmf("infer", series, "-m", tiny_package_path)
    assert run.code == 3
    assert f"the series has no {keyword}" in run.stderr
    assert names(tmp_path) == ["ct"]
    output = tmp_path / "s.nii.gz"
    assert sgmf("infer", series, "-m", tiny_package_path, "-o", output).code == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["-o", "s.nii.gz", "--dicom-report"], "--dicom-report is for DICOM segmentations"),
        (["-o", "s.nrrd", "--segmentation-type", "binary"], "--segmentation-type is for DICOM"),
        (["-o", "s.txt"], "must end in .nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd, .dcm"),
    ],
)
def test_options_that_do_not_suit_are_misuse(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, options: list[str], complaint: str
) -> None:
    run = sgmf("infer", series, "-m", tiny_package_path, *options)
    assert run.code == 2
    assert complaint in run.stderr


def test_a_scan_of_another_format_gives_no_segmentation(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("infer", scan, "-m", tiny_package_path, "-o", tmp_path / "s.dcm")
    assert run.code == 3
    assert "the scan is no DICOM series" in run.stderr
    assert names(tmp_path) == ["scan.nii.gz"]


def test_overlapping_regions_are_refused_as_a_label_map(
    sgmf: Sgmf, series: Path, tmp_path: Path
) -> None:
    package = write_region_package(tmp_path / "regions.sgmf")
    options = ("-m", package, "-o", tmp_path / "s.dcm", "--segmentation-type", "labelmap")
    run = sgmf("infer", series, series, *options)
    assert run.code == 2
    assert "overlap, and a DICOM label map holds one for each voxel" in run.stderr


def test_a_large_binary_segmentation_is_told_once(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmaformer.cli.dicom_results.MANY_FRAMES", 1)
    command = ("infer", series, "-m", tiny_package_path)
    assert sgmf(*command).stderr.count("--segmentation-type labelmap has one for each slice") == 1
    assert "labelmap has one" not in sgmf(*command, "--segmentation-type", "labelmap").stderr


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_the_patient_stands_in_group_0010_of_dicom_results_and_nowhere_else(
    sgmf: Sgmf, tiny_package_path: Path, series: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    everything = ("--stats", "--preview", "--report", out, "--names", "--dicom-report")
    maps = ("--probabilities", "anterior", "--segmentation-type", kind)
    run = sgmf("infer", series, "-m", tiny_package_path, "-o", out, *everything, *maps, "--json")
    assert run.code == 0
    texts = [run.stdout, run.stderr, *names(out)]
    dicom = [path for path in out.iterdir() if path.suffix == ".dcm"]
    assert len(dicom) == 2
    for path in out.iterdir():
        content = path.read_bytes()
        if path in dicom:
            data = pydicom.dcmread(path)
            for keyword, value in MARKS.items():
                assert str(data[keyword].value) == value
                del data[keyword]
                assert content.count(value.encode()) == 1
            data.save_as(tmp_path / "rest.dcm")
            content = (tmp_path / "rest.dcm").read_bytes()
        texts.append(content.decode("latin-1"))
    assert [mark for mark in HIDDEN for text in texts if mark in text] == []


@pytest.mark.parametrize("fault", ["PixelData", "StudyInstanceUID", "Rows"])
def test_no_error_names_the_patient(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path, fault: str
) -> None:
    faults = {"PixelData": b"\0" * 10, "StudyInstanceUID": "", "Rows": 70}
    series = write_ct_series(tmp_path / "ct", _voxels(), changes={fault: faults[fault]})
    run = sgmf("infer", series, "-m", tiny_package_path)
    assert run.code == 3
    assert [mark for mark in HIDDEN if mark in run.stdout + run.stderr] == []
    assert names(tmp_path) == ["ct"]
