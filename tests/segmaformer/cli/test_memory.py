"""Scans of a few kilobytes whose grids are huge: refused within a bound of resident memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

MOST_MIB = 600
"""Limit for a process that loads the network (about 150 MiB) and reads a small scan."""

# Runs the command; its last line on stderr is the peak of its resident memory in MiB.
_MEASURED = """
import atexit, sys
from segmaformer.cli import main
from segmaformer.runtime.system.memory import peak_mib
atexit.register(lambda: print(peak_mib(), file=sys.stderr))
main()
"""


def scan_of(path: Path, spacing_mm: float) -> Path:
    voxels = np.random.default_rng(0).normal(100, 20, (35, 51, 35)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([spacing_mm] * 3 + [1.0])), path)
    return path


@pytest.mark.parametrize(
    ("command", "spacing_mm"), [("infer", 20.0), ("infer", 40.0), ("check", 100.0)]
)
def test_a_huge_grid_is_refused_before_it_takes_memory(
    hippocampus_package_path: Path, tmp_path: Path, command: str, spacing_mm: float
) -> None:
    scan = scan_of(tmp_path / "scan.nii.gz", spacing_mm)
    options = ["-m", str(hippocampus_package_path), "--memory-budget", "200"]
    run = subprocess.run(
        [sys.executable, "-c", _MEASURED, command, str(scan), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 3, run.stderr
    text, *_ = (run.stdout + run.stderr).split("Traceback")
    assert "the memory budget is 200 MiB" in text or "Check the header's spacing" in text
    assert float(run.stderr.split()[-1]) < MOST_MIB
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]
