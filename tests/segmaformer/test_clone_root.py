"""Imports in the clone's root, where the folder of that name hides the installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_in_the_root(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_installed_package_is_found() -> None:
    run = python_in_the_root("-c", "from segmaformer.runtime import Package; print(Package)")
    assert (run.returncode, run.stderr) == (0, "")


def test_without_an_installation_the_remedy_is_named() -> None:
    run = python_in_the_root("-S", "-c", "import segmaformer")
    assert "ImportError: segmaformer is not installed: run pip install" in run.stderr
