"""The packages that DICOM needs: loaded on use alone, and named if they are missing."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from pydicom.uid import JPEGLSLossless
from support.scans.dicom_files import Series

from segmaformer.runtime.errors import MissingExtraError
from segmaformer.runtime.scans.formats import read_scan

ROOT = Path(__file__).parents[4]
VOXELS = np.arange(40 * 36 * 3).reshape(40, 36, 3).astype("u2")
EXTRA = r"not installed; run: pip install 'segmaformer\[dicom\]'"


def imported_at_once(path: Path) -> set[str]:
    """Return the packages that a file imports when it is loaded."""
    found = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    return found


def test_the_packages_are_loaded_on_use_alone() -> None:
    packages = {"pydicom", "highdicom", "pynetdicom", "jpeg_ls", "openjpeg", "gdcm"}
    files = [
        path for folder in ("runtime", "segmaformer") for path in (ROOT / folder).rglob("*.py")
    ]
    assert not {path.name for path in files if packages & imported_at_once(path)}


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Series(VOXELS).write(tmp_path / "series")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=f"^pydicom {EXTRA}$"):
        read_scan([folder])


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Series(VOXELS, syntax=JPEGLSLossless).write(tmp_path / "series")
    monkeypatch.setitem(sys.modules, "jpeg_ls", None)
    with pytest.raises(MissingExtraError, match=f"^jpeg_ls {EXTRA}$"):
        read_scan([folder])
