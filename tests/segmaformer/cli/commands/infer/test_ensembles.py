"""``sgmf infer`` with several packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support.packages.samples import write_scan
from support.packages.small_packages import (
    convolutions,
    write_cascade_package,
    write_package,
    write_region_package,
)

from segmaformer.runtime.package.reader import Package, read_manifest

Sgmf = Callable[..., Any]


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, Path]:
    first = write_cascade_package(tmp_path / "first")
    manifest = read_manifest(first)
    model = convolutions(1, 3, width=9)
    return first, write_package(tmp_path / "second", manifest.preprocessing, manifest.output, model)


def test_the_record_names_every_package(
    sgmf: Sgmf, packages: tuple[Path, Path], tmp_path: Path
) -> None:
    scan, out = write_scan(tmp_path / "scan.nii.gz"), tmp_path / "labels"
    out.mkdir()
    named = [each for package in packages for each in ("-m", package)]
    options = ("--backend", "onnxruntime", "-o", out, "--stats", "--probabilities", "organ 1")
    run = sgmf("infer", scan, *named, *options)
    assert run.code == 0, run.stderr
    assert "sample + sample: ONNX Runtime" in run.stderr
    record = json.loads((out / "scan_seg.run.json").read_text())
    hashes = [Package.open(package).manifest_sha256 for package in packages]
    assert [member["manifest_sha256"] for member in record["ensemble"]] == hashes
    assert np.unique(nibabel.load(out / "scan_seg.nii.gz").get_fdata()).size > 1
    again = sgmf("infer", scan, *named, *options, "--resume", "--json")
    assert json.loads(again.stdout)["results"][0]["skipped"]
    alone = sgmf("infer", scan, *named[:2], *options, "--resume", "--json")
    assert "skipped" not in json.loads(alone.stdout)["results"][0]


def test_packages_of_different_labels_are_refused(
    sgmf: Sgmf, packages: tuple[Path, Path], tmp_path: Path
) -> None:
    other = write_region_package(tmp_path / "other")
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("infer", scan, "-m", packages[0], "-m", other, "-o", tmp_path / "a.nii.gz")
    assert run.code == 3
    assert "differ in channels" in run.stderr


def test_the_environment_names_one_package(
    sgmf: Sgmf, packages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    monkeypatch.setenv("SGMF_MODEL", str(packages[1]))
    run = sgmf("infer", scan, "-o", tmp_path / "a.nii.gz")
    assert run.code == 0, run.stderr
    record = json.loads((tmp_path / "a.run.json").read_text())
    assert record["ensemble"] == []
