from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.results.run_record import is_done, run_record
from segmaformer.runtime.system.digest import sha256_of


@pytest.fixture
def finished(tmp_path: Path, tiny_package_path: Path) -> dict[str, object]:
    """Write a scan, its label map and record, as a batch leaves them."""
    package_path = shutil.copytree(tiny_package_path, tmp_path / "tiny.sgmf")
    voxels = np.random.default_rng(0).standard_normal((20, 22, 24)).astype(np.float32)
    scan, label_map = tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), scan)
    package = Package.open(package_path)
    segmentation = Predictor(package).predict(scan)
    segmentation.save(label_map)
    record = run_record(segmentation, scan=[scan], label_map=label_map, package=package)
    (tmp_path / "record.json").write_text(json.dumps(record))
    return {
        "record": tmp_path / "record.json",
        "scan": [scan],
        "label_map": label_map,
        "package": package,
        "backend": segmentation.backend,
    }


def test_record_traces_the_label_map(finished: dict[str, object]) -> None:
    record = json.loads(Path(str(finished["record"])).read_text())
    assert record["label_map_sha256"] == sha256_of(str(finished["label_map"]))
    assert record["scan"][0]["name"] == "scan.nii.gz"
    assert {"read", "preprocess", "network and labels"} <= set(record["seconds"])
    assert "onnxruntime" in record["software"]


def test_finished_run_is_done(finished: dict[str, object]) -> None:
    assert is_done(**finished)  # type: ignore[arg-type]


@pytest.mark.parametrize("altered", ["record", "label_map", "scan"])
def test_an_altered_file_is_not_done(finished: dict[str, object], altered: str) -> None:
    value = finished[altered]
    path = value[0] if isinstance(value, list) else value
    assert isinstance(path, Path)
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    assert not is_done(**finished)  # type: ignore[arg-type]


def test_another_backend_or_package_is_not_done(finished: dict[str, object]) -> None:
    assert not is_done(**{**finished, "backend": "another"})  # type: ignore[arg-type]
    assert not is_done(**{**finished, "mirrored_axes": (2,)})  # type: ignore[arg-type]
    assert not is_done(**{**finished, "nan_to": 0.0})  # type: ignore[arg-type]
    package = finished["package"]
    assert isinstance(package, Package)
    manifest = package.path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert not is_done(**finished)  # type: ignore[arg-type]


def test_missing_files_are_not_done(finished: dict[str, object], tmp_path: Path) -> None:
    assert not is_done(**{**finished, "record": tmp_path / "none.json"})  # type: ignore[arg-type]
