"""The example of a user's own network, run as the docs tell, and its labels against PyTorch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/own_network.py"


def test_the_example_segments_its_scan(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--out", str(tmp_path / "out")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    scan, labels = (nibabel.load(tmp_path / f"out/{name}.nii.gz") for name in ("scan", "labels"))
    assert labels.shape == scan.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-5)
    found = np.unique(np.asanyarray(labels.dataobj))
    assert set(found) <= {0, 1, 2}
    assert len(found) > 1
    assert "background: " in said


def test_its_package_is_the_network(tmp_path: Path) -> None:
    from segmaformer.runtime.backends import open_session

    example = _module()
    torch.manual_seed(0)
    network = example.SmallUNet()
    package = example.export_module(network, tmp_path / "n.sgmf", example.network_use())
    tile = np.random.default_rng(0).normal(size=(1, 1, *example.TILE)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(tile)).numpy()
    logits = open_session(package, backend="onnxruntime").run(tile)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("own_network", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
