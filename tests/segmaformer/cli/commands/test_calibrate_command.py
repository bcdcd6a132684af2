from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.networks.quick_search import hasten_search
from support.packages.samples import copy_package, head_like, write_scan

pytest.importorskip("onnx")

from segmaformer.calibration import ranges
from segmaformer.cli.commands.calibrate import METHODS
from segmaformer.runtime.package.reader import Package

Sgmf = Callable[..., Any]

LENIENT = ("--least-dice", 0.9)
"""Weights are random, so that logits lie close together."""


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for index in range(3):
        scan = head_like((30 + index, 34, 40), seed=index)
        write_scan(tmp_path / "scans" / f"case{index}.nii.gz", scan)
    return tmp_path / "scans"


@pytest.fixture
def package(tiny_package_path: Path, tmp_path: Path) -> Path:
    return copy_package(tiny_package_path, tmp_path)


def test_a_package_is_calibrated_and_its_variant_runs(
    sgmf: Sgmf, package: Path, scans: Path, tmp_path: Path
) -> None:
    run = sgmf("calibrate", package, scans, *LENIENT)
    assert run.code == 0
    assert run.stdout == f"{package}\n"
    assert "tiles of 2 scans to calibrate on" in run.stderr
    assert "int8-cpu: " in run.stderr
    assert {"int8", "int8-cpu"} <= Package.open(package).manifest.variants.keys()
    out = tmp_path / "labels.nii.gz"
    arguments = ("-m", package, "-o", out, "--backend", "onnxruntime", "--variant", "int8-cpu")
    assert sgmf("infer", scans / "case0.nii.gz", *arguments).code == 0
    assert out.exists()


def test_a_calibrated_package_needs_overwrite(sgmf: Sgmf, package: Path, scans: Path) -> None:
    assert sgmf("calibrate", package, scans, *LENIENT).code == 0
    refused = sgmf("calibrate", package, scans)
    assert refused.code == 2
    assert "--overwrite" in refused.stderr
    again = ("--overwrite", "--ranges", "minmax", *LENIENT)
    assert sgmf("calibrate", package, scans, *again).code == 0


def test_what_is_no_package_is_refused(sgmf: Sgmf, scans: Path, tmp_path: Path) -> None:
    run = sgmf("calibrate", tmp_path / "none.sgmf", scans)
    assert (run.code, run.stderr) == (2, f"sgmf: there is no package at {tmp_path}/none.sgmf\n")
    run = sgmf("calibrate", tmp_path / "none" / "none.sgmf", scans)
    assert (run.code, "there is no package" in run.stderr) == (2, True)


def test_too_few_scans_are_refused(sgmf: Sgmf, package: Path, scans: Path) -> None:
    (scans / "case0.nii.gz").unlink()
    run = sgmf("calibrate", package, scans)
    assert run.code == 3
    assert "--accept-few" in run.stderr
    assert sgmf("calibrate", package, scans, "--accept-few", *LENIENT).code == 0


def test_nan_in_scans_is_refused_or_replaced(sgmf: Sgmf, package: Path, scans: Path) -> None:
    for path in scans.iterdir():
        voxels = nibabel.load(path).get_fdata(dtype=np.float32)
        voxels[3, 4, 5] = np.nan
        write_scan(path, voxels)
    run = sgmf("calibrate", package, scans, *LENIENT)
    assert run.code == 3
    assert "--nan-to VALUE" in run.stderr
    assert sgmf("calibrate", package, scans, "--nan-to", "0", *LENIENT).code == 0
    calibration = Package.open(package).manifest.calibration
    assert "voxels that were NaN or infinite counted as 0" in json.dumps(calibration)


def test_a_shortfall_is_a_parity_error(
    sgmf: Sgmf, package: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten_search(monkeypatch)
    before = sorted(path.name for path in package.iterdir())
    run = sgmf("calibrate", package, scans, "--least-dice", 1)
    assert run.code == 4
    assert "does not match fp32" in run.stderr
    assert sorted(path.name for path in package.iterdir()) == before


def test_the_choices_are_those_of_the_library() -> None:
    assert set(METHODS) == set(ranges.METHODS)
