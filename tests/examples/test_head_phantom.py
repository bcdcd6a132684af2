"""The example of a CT phantom: its DICOM segmentation, and the picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scripts import ROOT, load_script

torch = pytest.importorskip("torch")
pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from PIL import Image

from segmaformer.runtime import Package, Predictor


@pytest.fixture(scope="module")
def example() -> Any:
    return load_script(ROOT / "examples/head_phantom.py")


def test_plastic_and_skull_are_found_on_the_tilted_images(
    example: Any, data_dir: Path, tmp_path: Path
) -> None:
    folder = data_dir / "dicom/ct_tilt_minus18"
    example.write_package(tmp_path / "densities.sgmf")
    segmentation = Predictor(Package.open(tmp_path / "densities.sgmf")).predict(folder)
    segmentation.save(tmp_path / "densities.dcm")
    pixels, _, places = example.read_images(folder)
    numbers, _ = example.read_segments(tmp_path / "densities.dcm", places, pixels.shape)
    np.testing.assert_array_equal(numbers, segmentation.labels.T)
    air, plastic, skull = (pixels[value == segmentation.labels.T].mean() for value in (0, 1, 2))
    assert air < -950 < -100 < plastic < 150 < 300 < skull
    example.draw(folder, tmp_path / "densities.dcm", tmp_path / "densities.png")
    picture = np.asarray(Image.open(tmp_path / "densities.png"))
    assert (np.ptp(picture, axis=2) > 40).sum() > 1000
