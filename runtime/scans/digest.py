"""Facts by which a scan's files are recognised: names, number and SHA-256."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segmaformer.runtime.scans.dicom.candidates import dicom_files
from segmaformer.runtime.system.digest import sha256_of, sha256_of_all


def file_facts(path: Path) -> dict[str, Any]:
    """Return ``name`` and ``sha256`` of a file, or of a folder's DICOM files with their number."""
    if not path.is_dir():
        return {"name": path.name, "sha256": sha256_of(path)}
    files = [*dicom_files(path)]
    return {"name": path.name, "files": len(files), "sha256": sha256_of_all(files)}


def sha256_of_scan(path: Path) -> str:
    """Compute the SHA-256 of a scan's file, or one over all DICOM files of a folder."""
    digest: str = file_facts(path)["sha256"]
    return digest
