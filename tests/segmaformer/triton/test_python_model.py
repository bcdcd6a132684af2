"""The model that Triton's Python backend runs, against a stand-in for the backend."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stand_ins.triton_backend import Request, TritonError, triton_module

from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.errors import BackendError
from segmaformer.triton.repository import write_model

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = triton_module()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    monkeypatch.delitem(sys.modules, "segmaformer.triton.python_model", raising=False)
    return module


@pytest.fixture
def model(triton: Any, two_channel_package_path: Path, tmp_path: Path) -> Any:
    folder = write_model(Package.open(two_channel_package_path), tmp_path, "brain")
    parameters = {"backend": "onnxruntime", "threads": "1", "variant": ""}
    configuration = {
        "parameters": {name: {"string_value": value} for name, value in parameters.items()}
    }
    opened = importlib.import_module("segmaformer.triton.python_model").TritonPythonModel()
    opened.initialize(
        {
            "model_config": json.dumps(configuration),
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
            "model_name": "brain",
            "model_repository": str(folder),
            "model_version": "1",
        }
    )
    return opened


def request(voxels: np.ndarray, affine: np.ndarray = AFFINE, *, cancelled: bool = False) -> Request:
    return Request({"image": voxels, "affine": affine}, cancelled)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 20, 18, 16), dtype=np.float32)


def test_labels_are_those_of_a_prediction(
    model: Any, triton: Any, two_channel_package_path: Path, voxels: np.ndarray
) -> None:
    (answer,) = model.execute([request(voxels)])
    found = np.from_dlpack(answer.output_tensors[0])
    predictor = Predictor(Package.open(two_channel_package_path), "onnxruntime")
    expected = predictor.predict(Volume(voxels, AFFINE)).labels
    assert answer.output_tensors[0].name == "labels"
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert len(np.unique(found)) > 1
    assert "ONNX Runtime" in triton.lines[-1]
    model.finalize()


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        ("nan", TritonError.INVALID_ARG, "NaN"),
        ("affine", TritonError.INVALID_ARG, "affine"),
        ("channels", TritonError.INVALID_ARG, "channel"),
        ("cancelled", TritonError.CANCELLED, ""),
    ],
)
def test_refused_request_leaves_the_others(
    damage: str, code: str, message: str, model: Any, voxels: np.ndarray
) -> None:
    bad = voxels.copy()
    bad[0, 3, 3, 3] = np.nan
    wrong = {
        "nan": request(bad),
        "affine": request(voxels, np.ones((4, 4))),
        "channels": request(voxels[:1]),
        "cancelled": request(voxels, cancelled=True),
    }[damage]
    refused, answer = model.execute([wrong, request(voxels)])
    assert refused.error.code == code
    assert message in refused.error.message
    assert not refused.output_tensors
    assert answer.error is None


def test_failure_of_the_network_is_the_servers(
    model: Any, voxels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError("the network failed")

    monkeypatch.setattr(model._predictor, "predict", fail)
    (answer,) = model.execute([request(voxels)])
    assert answer.error.code == TritonError.INTERNAL
