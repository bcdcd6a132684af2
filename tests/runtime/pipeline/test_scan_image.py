"""A scan's whole image: what a predictor sees, with the same choices about reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from pydicom.dataset import Dataset
from support.packages.samples import head_like
from support.scans.dicom_files import Series

from segmaformer.runtime.errors import BudgetError, InputError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline import scan_image
from segmaformer.runtime.pipeline.scan_image import ScanImage, ScanOptions, read_scan_image
from segmaformer.runtime.predictor import Predictor

VOXELS = (head_like((33, 28, 24)) * 100 + 500).clip(0, 4000).astype("u2")
CHOICES = [
    ScanOptions(where=("SeriesNumber=4",)),
    ScanOptions(where=("SeriesNumber=5",)),
    ScanOptions(where=("SeriesNumber=4",), keep_tilt=True),
]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write two tilted series."""
    for number in (4, 5):

        def change(dataset: Dataset, _index: int, number: int = number) -> None:
            dataset.SeriesNumber = number

        voxels = VOXELS + np.uint16(number * np.arange(33)[:, None, None])
        Series(voxels, step_mm=(0, 0.7, 2.4), change=change).write(tmp_path / f"study/{number}")
    return tmp_path / "study"


def whole_image(package: Package, study: Path, options: ScanOptions) -> ScanImage:
    manifest = package.manifest
    return read_scan_image([study], manifest.preprocessing, manifest.tiling.tile, options)


@pytest.mark.parametrize("options", CHOICES, ids=lambda each: " ".join(each.notes()))
def test_the_image_is_what_a_predictor_sees(
    options: ScanOptions, tiny_package_path: Path, study: Path
) -> None:
    package = Package.open(tiny_package_path)
    predictor = Predictor(package, where=options.where, keep_tilt=options.keep_tilt)
    expected = predictor.prepare(study)
    found = whole_image(package, study, options)
    np.testing.assert_array_equal(found.prepared.image, expected.scan.image)
    assert (found.straightening is None) == options.keep_tilt
    assert found.volume.shape == VOXELS.shape


def test_a_choice_is_needed_as_elsewhere(tiny_package_path: Path, study: Path) -> None:
    with pytest.raises(InputError, match="2 usable series"):
        whole_image(Package.open(tiny_package_path), study, ScanOptions())


def test_the_straight_volume_counts_within_the_budget(
    tiny_package_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_image, "default_budget_bytes", lambda: VOXELS.size * 4)
    with pytest.raises(BudgetError, match="straightened"):
        whole_image(Package.open(tiny_package_path), study, CHOICES[0])


def test_notes_tell_what_differs_from_the_default() -> None:
    assert ScanOptions().notes() == []
    assert ScanOptions(0, ("EchoTime=4", "StackID=1"), keep_tilt=True).notes() == [
        "voxels that were NaN or infinite counted as 0",
        "DICOM images were chosen by EchoTime=4 and StackID=1",
        "tilted DICOM series were not straightened",
    ]
