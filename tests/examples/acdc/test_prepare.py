"""Preparation of ACDC's scans."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np


def test_scans_and_labels_reach_one_grid(acdc: Path, example: Path, tmp_path: Path) -> None:
    command = [sys.executable, example / "prepare.py", acdc, "--out", tmp_path]
    subprocess.run(command, check=True)
    with np.load(tmp_path / "prepared/patient001_frame01.npz") as arrays:
        image, labels = arrays["image"], arrays["labels"]
    assert image.shape == (1, 6, 140, 120)  # twice as fine within slices, by the header's spacing
    assert labels.shape == image.shape[1:]
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert not labels[0].any()
    assert abs(image.mean()) < 0.05
    assert (
        image[0][labels == 3].mean() > image[0][labels == 1].mean() > image[0][labels == 0].mean()
    )
    assert len([*(tmp_path / "prepared").iterdir()]) == 12
    for folder, count in (("imagesCal", 4), ("imagesTs", 2), ("labelsTs", 2)):
        assert len([*(tmp_path / folder).glob("*.nii.gz")]) == count
