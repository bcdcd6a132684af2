from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.results.run_record import is_done, run_record, run_settings
from segmaformer.runtime.system.digest import sha256_of


@pytest.fixture
def finished(tmp_path: Path, tiny_package_path: Path) -> dict[str, Any]:
    """Write a scan, its label map and record, as a batch leaves them."""
    package_path = shutil.copytree(tiny_package_path, tmp_path / "tiny.sgmf")
    voxels = np.random.default_rng(0).standard_normal((20, 22, 24)).astype(np.float32)
    scan, label_map = tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), scan)
    package = Package.open(package_path)
    predictor = Predictor(package)
    segmentation = predictor.predict(scan)
    segmentation.save(label_map)
    settings = run_settings(package, [dataclasses.asdict(each) for each in predictor.networks])
    record = run_record(segmentation, settings, scan=[scan], label_map=label_map)
    (tmp_path / "record.json").write_text(json.dumps(record))
    return {
        "record": tmp_path / "record.json",
        "settings": settings,
        "scan": [scan],
        "label_map": label_map,
    }


def test_record_traces_the_label_map(finished: dict[str, Any]) -> None:
    record = json.loads(Path(str(finished["record"])).read_text())
    assert record["label_map_sha256"] == sha256_of(str(finished["label_map"]))
    assert record["scan"][0]["name"] == "scan.nii.gz"
    assert {"read", "preprocess", "network and labels"} <= set(record["seconds"])
    assert "onnxruntime" in record["software"]


def test_finished_run_is_done(finished: dict[str, Any]) -> None:
    assert is_done(**finished)


@pytest.mark.parametrize("altered", ["record", "label_map", "scan"])
def test_an_altered_file_is_not_done(finished: dict[str, Any], altered: str) -> None:
    value = finished[altered]
    path = value[0] if isinstance(value, list) else value
    assert isinstance(path, Path)
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    assert not is_done(**finished)


@pytest.mark.parametrize(
    "changed",
    [
        {"networks": [{"backend": "onnxruntime", "device": "cuda", "variant": "fp32"}]},
        {"mirrored_axes": [2]},
        {"nan_to": 0.0},
        {"package": {"name": "tiny", "manifest_sha256": "0" * 64}},
    ],
)
def test_other_settings_are_not_done(finished: dict[str, Any], changed: dict[str, Any]) -> None:
    settings = {**finished.pop("settings"), **changed}
    assert not is_done(**finished, settings=settings)


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ({"backend": "openvino"}, True),
        ({"backend": "onnxruntime", "device": "cuda"}, True),
        ({"variant": "fp16"}, False),
        ({"precision": "bf16"}, False),
    ],
)
def test_a_backend_that_was_chosen_by_speed_is_left_out(
    finished: dict[str, Any], changed: dict[str, str], counts: bool
) -> None:
    (network,) = finished["settings"]["networks"]
    settings = {**finished.pop("settings"), "networks": [{**network, **changed}]}
    backend = json.loads(finished["record"].read_text())["backend"]
    assert not is_done(**finished, settings=settings)
    assert is_done(**finished, settings=settings, any_backend=True) == counts
    assert not is_done(**finished, settings=settings, any_backend=True, strict_backend=backend)


def test_a_key_that_signed_changes_no_label(finished: dict[str, Any]) -> None:
    settings = finished.pop("settings")
    package = {**settings["package"], "signature": {"key": "another"}}
    assert is_done(**finished, settings={**settings, "package": package})


@pytest.mark.parametrize("recorded", ["backend", "software"])
def test_threads_and_versions_are_compared_on_request_alone(
    finished: dict[str, Any], recorded: str
) -> None:
    record = json.loads(finished["record"].read_text())
    assert is_done(**finished, strict_backend=record["backend"])
    other = {"backend": "of 96 threads", "software": {"onnxruntime": "0.1"}}[recorded]
    finished["record"].write_text(json.dumps({**record, recorded: other}))
    assert is_done(**finished)
    assert not is_done(**finished, strict_backend=record["backend"])


@pytest.mark.parametrize("name", ["scan", "label_map"])
def test_a_file_of_the_same_size_and_time_is_hashed_on_request_alone(
    finished: dict[str, Any], name: str
) -> None:
    path = finished[name][0] if name == "scan" else finished[name]
    found = path.stat()
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    assert not is_done(**finished)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert is_done(**finished)
    backend = json.loads(finished["record"].read_text())["backend"]
    assert not is_done(**finished, strict_backend=backend)


def test_a_copy_with_another_time_is_the_same_file(finished: dict[str, Any]) -> None:
    for path in (*finished["scan"], finished["label_map"]):
        os.utime(path, ns=(0, 0))
    assert is_done(**finished)


def test_a_long_record_is_read_whole(finished: dict[str, Any]) -> None:
    text = finished["record"].read_text()
    finished["record"].write_text(text.replace("{", "{" + " " * (1 << 17), 1))
    assert is_done(**finished)


def test_missing_files_are_not_done(finished: dict[str, Any], tmp_path: Path) -> None:
    assert not is_done(**{**finished, "record": tmp_path / "none.json"})
