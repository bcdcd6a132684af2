from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

from pydicom.dataset import Dataset
from support.scans.dicom_files import Series

Sgmf = Callable[..., Any]

VOXELS = np.arange(40 * 36 * 5).reshape(40, 36, 5).astype("u2")


def _two_phases(dataset: Dataset, index: int) -> None:
    dataset.AcquisitionNumber = 7 + index // 5


def two_series(folder: Path) -> Path:
    for number in (4, 5):

        def change(dataset: Dataset, _index: int, number: int = number) -> None:
            dataset.SeriesNumber, dataset.SeriesDescription = number, f"axial {number}"

        Series(VOXELS, change=change).write(folder / str(number))
    return folder


def test_usable_series_are_named_with_their_choice(sgmf: Sgmf, tmp_path: Path) -> None:
    run = sgmf("series", two_series(tmp_path / "study"))
    assert run.code == 0
    heading, first, second = run.stdout.splitlines()
    assert heading.split()[:2] == ["series", "modality"]
    assert first.startswith("4 axial 4")
    assert first.endswith("--where SeriesNumber=4")
    assert "40x36x5" in second
    assert "0.5 x 0.75 x 2.5" in second


def test_the_choice_can_be_used(sgmf: Sgmf, tmp_path: Path) -> None:
    folder = two_series(tmp_path / "study")
    run = sgmf("series", folder, "--where", "SeriesNumber=4", "--json")
    (series,) = json.loads(run.stdout)["series"]
    assert series["description"] == "axial 4"
    assert series["usable"]
    assert series["shape"] == [40, 36, 5]
    assert (series["where"], series["reason"], series["tilt_degrees"]) == ("", "", 0)


def test_a_series_without_a_volume_is_named_with_its_cause(sgmf: Sgmf, tmp_path: Path) -> None:
    voxels = np.concatenate([VOXELS, VOXELS], axis=2)
    series = Series(voxels, change=_two_phases)
    positions = [series.slice(index % 5).ImagePositionPatient for index in range(10)]

    def change(dataset: Dataset, index: int) -> None:
        _two_phases(dataset, index)
        dataset.ImagePositionPatient = positions[index]

    series.change = change
    run = sgmf("series", series.write(tmp_path / "phases"))
    assert run.code == 3
    assert "no: one position has several images" in run.stdout
    assert "--where AcquisitionNumber=7, or --where AcquisitionNumber=8" in run.stdout
    run = sgmf("series", tmp_path / "phases", "--where", "AcquisitionNumber=8")
    assert run.code == 0
    assert "40x36x5" in run.stdout


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("SeriesNumber", "not of the form KEYWORD=VALUE"),
        ("Series=3", "no keyword 'Series'"),
        ("PatientName=DOE", "PatientName is about the patient"),
    ],
)
def test_conditions_are_checked(sgmf: Sgmf, tmp_path: Path, where: str, message: str) -> None:
    run = sgmf("series", tmp_path, "--where", where)
    assert run.code == 2
    assert message in run.stderr


def test_a_folder_without_dicom_says_so(sgmf: Sgmf, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no scan")
    run = sgmf("series", tmp_path)
    assert (run.code, run.stdout) == (3, f"{tmp_path} holds no DICOM images\n")
