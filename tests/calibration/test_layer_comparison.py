from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import copy_package, with_scaled_weights

onnx = pytest.importorskip("onnx")

from segmaformer.calibration import layer_comparison
from segmaformer.calibration.layer_comparison import TOLERANCE, LayerError, compare_layers
from segmaformer.runtime.package import Package
from segmaformer.runtime.package_writer import write_files


def test_float16_is_near_everywhere(tiny_package_path: Path) -> None:
    errors = compare_layers(Package.open(tiny_package_path), "fp16")
    assert max(each.relative_error for each in errors) < TOLERANCE
    assert any(each.operator == "SelectiveScan" for each in errors)
    assert errors[-1].tensor == "logits"
    assert errors[-1].relative_error > 0


def test_the_first_layer_that_differs_is_found(
    tiny_package_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy_package(tiny_package_path, tmp_path)
    package = Package.open(path)
    model = onnx.load_from_string(package.read("fp32.onnx"))
    altered = with_scaled_weights(model, 0.9).SerializeToString()
    manifest = write_files(
        path, package.manifest, {"fp32.onnx": package.read("fp32.onnx"), "fp16.onnx": altered}
    )
    # Little memory means many groups, which must not change what is found.
    monkeypatch.setattr(layer_comparison, "_BUDGET_BYTES", 1 << 20)
    errors = compare_layers(Package(path, manifest), "fp16")
    beyond = [each for each in errors if each.relative_error > 0]
    assert beyond[0].operator == "Conv"
    (node,) = [each for each in model.graph.node if each.output[0] == beyond[0].tensor]
    assert node.input[1].endswith("pred.weight")


def test_a_value_that_is_no_number_is_null_in_json() -> None:
    record = LayerError("x", "Exp", float("inf")).record()
    assert record["relative_error"] is None
    json.dumps(record, allow_nan=False)
