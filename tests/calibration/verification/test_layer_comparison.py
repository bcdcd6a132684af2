from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.packages.samples import copy_package, with_scaled_weights

onnx = pytest.importorskip("onnx")

from segmaformer.calibration.verification.layer_comparison import (
    TOLERANCE,
    LayerError,
    OnnxRuntimeValues,
    compare_layers,
)
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.parity.tiles import phantom_tiles


def phantoms(package: Package, count: int = 1) -> np.ndarray:
    manifest = package.manifest
    return phantom_tiles(manifest.preprocessing.normalization, manifest.tiling.tile, count=count)


def test_float16_is_near_everywhere(tiny_package_path: Path) -> None:
    package = Package.open(tiny_package_path)
    errors = compare_layers(package, OnnxRuntimeValues(package, "fp16"), phantoms(package))
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
    monkeypatch.setattr(OnnxRuntimeValues, "group_bytes", 1 << 19)
    package = Package(path, manifest)
    errors = compare_layers(package, OnnxRuntimeValues(package, "fp16"), phantoms(package))
    beyond = [each for each in errors if each.relative_error > 0]
    (node,) = [each for each in model.graph.node if each.output[0] == beyond[0].tensor]
    assert any("pred.weight" in name for name in node.input)


def test_of_several_tiles_the_worst_counts(tiny_package_path: Path) -> None:
    package = Package.open(tiny_package_path)
    fp16 = OnnxRuntimeValues(package, "fp16")
    tiles = phantoms(package, count=2)
    first, second, both = (
        compare_layers(package, fp16, chosen) for chosen in (tiles[:1], tiles[1:], tiles)
    )
    for one, other, worst in zip(first, second, both, strict=True):
        assert worst.relative_error == max(one.relative_error, other.relative_error)
    assert first != second


def test_a_value_that_is_no_number_is_null_in_json() -> None:
    record = LayerError("x", "Exp", float("inf")).record()
    assert record["relative_error"] is None
    json.dumps(record, allow_nan=False)
