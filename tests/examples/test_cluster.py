"""The templates for clusters, run on eight scans without a cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.packages.samples import write_scan
from support.scripts import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="runs shell scripts")

CLUSTER = ROOT / "examples/cluster"
SCANS = 8


@pytest.fixture
def surroundings(tiny_package_path: Path, tmp_path: Path) -> dict[str, str]:
    """Write the scans and a command `sgmf`, and name both in environment variables."""
    for index in range(SCANS):
        write_scan(tmp_path / "scans" / f"case{index}.nii.gz")
    command = tmp_path / "bin/sgmf"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m segmaformer "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "SCANS": str(tmp_path / "scans"),
        "MODEL": str(tiny_package_path),
        "OUT": str(tmp_path / "labels"),
    }


def check_whole(surroundings: dict[str, str], parts: int, folder: Path) -> None:
    """Merge the summaries, and check that every scan was done once."""
    out = Path(surroundings["OUT"])
    summaries = sorted(out.glob(f"summary-*-of-{parts}.json"))
    assert len(summaries) == parts
    subprocess.run(
        ["sgmf", "merge", *summaries, "-o", folder / "all.json"],
        env=surroundings,
        cwd=folder,
        check=True,
    )
    results = json.loads((folder / "all.json").read_text())["results"]
    assert [result["exit_code"] for result in results] == [0] * SCANS
    assert len([*out.glob("*_seg.nii.gz")]) == SCANS


def sbatch(script: Path, surroundings: dict[str, str], folder: Path, array: range) -> None:
    """Run the tasks of an array one after the other, as Slurm does at once."""
    for task in array:
        names = {"ID": task, "COUNT": len(array), "MIN": array[0], "MAX": array[-1]}
        given = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
        subprocess.run(
            ["bash", script], env={**surroundings, **given}, cwd=folder, check=True, text=True
        )


def test_the_slurm_array_segments_every_scan_once(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    script = CLUSTER / "array.sbatch"
    described = re.search(r"^#SBATCH --array=1-(\d+)$", script.read_text(), re.MULTILINE)
    assert described is not None
    parts = int(described.group(1))
    sbatch(script, surroundings, tmp_path, range(1, parts + 1))
    check_whole(surroundings, parts, tmp_path)
    # One task alone goes on with its part.
    sbatch(script, {**surroundings, "PARTS": str(parts)}, tmp_path, range(3, 4))
    part = json.loads((tmp_path / f"labels/summary-3-of-{parts}.json").read_text())
    assert [result.get("skipped") for result in part["results"]] == [True, True]


@pytest.fixture(scope="module")
def job() -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((CLUSTER / "job.yaml").read_text())


def test_the_kubernetes_job_fits_the_schema(job: Any) -> None:
    validation = pytest.importorskip("kubernetes_validate")
    validation.validate(job, "1.33", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    parts = {entry["name"]: entry["value"] for entry in container["env"]}["PARTS"]
    assert job["spec"]["completions"] == int(parts)


def test_the_kubernetes_job_segments_every_scan_once(
    job: Any, surroundings: dict[str, str], tmp_path: Path
) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    parts = job["spec"]["completions"]
    for index in range(parts):
        given = {"JOB_COMPLETION_INDEX": str(index), "PARTS": str(parts)}
        subprocess.run(
            [*container["command"], *container["args"]],
            env={**surroundings, **given},
            cwd=tmp_path,
            check=True,
        )
    check_whole(surroundings, parts, tmp_path)
