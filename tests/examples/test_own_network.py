"""The example of a user's own network, run as the docs tell, and its labels against PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.scripts import ROOT, load_script

torch = pytest.importorskip("torch")

EXAMPLE = ROOT / "examples/own_network.py"


@pytest.fixture(scope="module")
def example_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the example; return its folder and what it said."""
    folder = tmp_path_factory.mktemp("example") / "out"
    command = [sys.executable, str(EXAMPLE), "--out", str(folder)]
    return folder, subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_example_segments_its_scan(example_run: tuple[Path, str]) -> None:
    folder, said = example_run
    scan, labels = (nibabel.load(folder / f"{name}.nii.gz") for name in ("scan", "labels"))
    assert labels.shape == scan.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-5)
    found = np.unique(np.asanyarray(labels.dataobj))
    assert set(found) <= {0, 1, 2}
    assert len(found) > 1
    assert "background: " in said


def test_its_package_is_the_network(example_run: tuple[Path, str]) -> None:
    from segmaformer.runtime.backends import open_session
    from segmaformer.runtime.package.reader import Package

    example: Any = load_script(EXAMPLE)
    torch.manual_seed(0)
    network = example.SmallUNet().eval()
    package = Package.open(example_run[0] / "network.sgmf")
    tile = np.random.default_rng(0).normal(size=(1, 1, *example.TILE)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(tile)).numpy()
    logits = open_session(package, backend="onnxruntime").run(tile)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))
