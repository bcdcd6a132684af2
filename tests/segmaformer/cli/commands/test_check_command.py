from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.samples import head_like, write_scan

Sgmf = Callable[..., Any]


def test_an_ordinary_scan_shows_nothing_grave(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz", head_like((40, 44, 48)))
    run = sgmf("check", scan, "-m", tiny_package_path)
    assert run.code == 0
    assert "refuse" not in run.stdout


def test_what_cannot_be_segmented_is_refused_with_a_fix(sgmf: Sgmf, tmp_path: Path) -> None:
    good = write_scan(tmp_path / "good.nii.gz")
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(good.read_bytes()[:-40])
    run = sgmf("check", good, bad)
    assert run.code == 3
    assert run.stdout.startswith("refuse: ")
    assert f"  {bad}\n" in run.stdout


def test_a_finding_of_many_scans_is_printed_once(sgmf: Sgmf, tmp_path: Path) -> None:
    good = write_scan(tmp_path / "good.nii.gz").read_bytes()
    for index in range(5):
        (tmp_path / f"{index}.nii.gz").write_bytes(good[:40])
    run = sgmf("check", *(tmp_path / f"{index}.nii.gz" for index in range(5)))
    lines = run.stdout.splitlines()
    assert run.code == 3
    assert len([line for line in lines if line.startswith("refuse in 5 scans: ")]) == 1
    assert lines[2].endswith("2.nii.gz and 2 more (--json names all)")


def test_json_lists_findings_by_scan(sgmf: Sgmf, tmp_path: Path) -> None:
    labels = np.zeros((30, 30, 30), np.float32)
    labels[10:20, 10:20, 10:20] = 1
    scan = write_scan(tmp_path / "labels.nii.gz", labels)
    run = sgmf("check", scan, "--json")
    (result,) = json.loads(run.stdout)["results"]
    assert result["scan"] == [str(scan)]
    assert {finding["level"] for finding in result["findings"]} <= {"refuse", "warn", "note"}
    assert all(finding["what"] and finding["fix"] for finding in result["findings"])
    assert result["findings"]


@pytest.mark.parametrize("command", ["check", "infer"])
def test_infer_warns_of_what_check_warns_of(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path, command: str
) -> None:
    labels = np.zeros((40, 40, 40), np.float32)
    labels[10:30, 10:30, 10:30] = 1
    scan = write_scan(tmp_path / "labels.nii.gz", labels)
    run = sgmf(command, scan, "-m", tiny_package_path)
    assert "warn" in run.stdout + run.stderr
