"""Cascades from nnU-Net's folders to label maps, by the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.networks.nnunet_folders import write_cascade
from support.packages.samples import write_scan

pytest.importorskip("torch")

from segmaformer.checkpoint import load_folds, with_previous_stage
from segmaformer.export.pipeline import ExportOptions, export_package

Sgmf = Callable[..., Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainings")
    _, second = write_cascade(folder)
    checkpoint = with_previous_stage(load_folds(second, folds=["0"]), folds=["0"])
    target = folder / "cascade.sgmf"
    return export_package(checkpoint, target, ExportOptions(fp16=True)).path


def test_export_finds_the_first_stage(sgmf: Sgmf, tmp_path: Path) -> None:
    first, second = write_cascade(tmp_path)
    target = tmp_path / "cascade.sgmf"
    run = sgmf("export", second, "--folds", "0", "-o", target)
    assert run.code == 0, run.stderr
    assert "first stage: nnunet-plain" in run.stderr
    again = sgmf("export", second, "--folds", "0", "-o", target, "--overwrite")
    assert again.code == 0, again.stderr
    first.rename(tmp_path / "elsewhere")
    refused = sgmf("export", second, "--folds", "0", "-o", tmp_path / "other.sgmf")
    assert refused.code == 3
    assert "--previous-stage FOLDER" in refused.stderr


def test_export_compares_a_cascade_on_phantoms_alone(sgmf: Sgmf, tmp_path: Path) -> None:
    _, second = write_cascade(tmp_path)
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("export", second, "--folds", "0", "--verify-scan", scan)
    assert run.code == 3
    assert "leave --verify-scan, --reference and --int8 out" in run.stderr


def test_inspect_shows_both_networks(sgmf: Sgmf, package: Path) -> None:
    facts = json.loads(sgmf("inspect", package, "--json").stdout)
    assert facts["spacing_mm"] == [1.0, 1.0, 1.0]
    assert facts["previous_stage"]["spacing_mm"] == [2.0, 2.0, 2.0]
    assert "This is a cascade" in (package / "card.md").read_text()


def test_verify_compares_both_networks(sgmf: Sgmf, package: Path, tmp_path: Path) -> None:
    runs = json.loads(sgmf("verify", package, "--json").stdout)["runs"]
    assert [(run["variant"], run.get("stage")) for run in runs] == [
        ("fp32", "previous_stage"),
        ("fp16", "previous_stage"),
        ("fp32", None),
        ("fp16", None),
    ]
    write_scan(tmp_path / "data" / "scan.nii.gz")
    on_scans = sgmf("verify", package, "--data", tmp_path / "data", "--variant", "fp32", "--json")
    assert json.loads(on_scans.stdout)["runs"][0]["label_agreement"] == 1
    assert sgmf("verify", package, "--data", tmp_path / "data", "--layers").code == 2


def test_two_trainings_become_labels_by_the_commands(sgmf: Sgmf, tmp_path: Path) -> None:
    _, second = write_cascade(tmp_path)
    package = tmp_path / "cascade.sgmf"
    assert sgmf("export", second, "--folds", "0", "-o", package).code == 0
    scan = write_scan(tmp_path / "scan.nii.gz")
    maps = {}
    for name, options in (("free", ()), ("bounded", ("--memory-budget", "100"))):
        run = sgmf("infer", scan, "-m", package, *options, "-o", tmp_path / f"{name}.nii.gz")
        assert run.code == 0, run.stderr
        record = json.loads((tmp_path / f"{name}.run.json").read_text())
        assert "previous stage" in record["seconds"]
        maps[name] = nibabel.load(tmp_path / f"{name}.nii.gz")
    assert np.unique(maps["free"].dataobj).size > 1
    np.testing.assert_array_equal(maps["free"].dataobj, maps["bounded"].dataobj)
    np.testing.assert_array_equal(maps["free"].affine, nibabel.load(scan).affine)


def test_models_keep_a_cascade_whole(
    sgmf: Sgmf, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGMF_MODELS", str(tmp_path / "models"))
    assert sgmf("models", "add", package).code == 0
    assert sgmf("inspect", "cascade").code == 0


def test_calibrate_refuses_a_cascade(sgmf: Sgmf, package: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "data" / "scan.nii.gz")
    run = sgmf("calibrate", package, tmp_path / "data")
    assert run.code == 3
    assert "is a cascade" in run.stderr
