"""Where the real scans and the published networks' outputs are, if they are here at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"no {default} folder at {path}; set {variable}")
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real scans (SGMF_TEST_DATA)."""
    return _folder("SGMF_TEST_DATA", "data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of outputs of the published networks (SGMF_TEST_GOLDEN)."""
    return _folder("SGMF_TEST_GOLDEN", "golden")
