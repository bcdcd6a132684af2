"""``sgmf export`` of an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.graphs.onnx_files import ONNX_INPUT, saved_onnx
from support.networks.nnunet_folders import DATASET, plans

pytest.importorskip("torch")

from segmaformer.export import pipeline
from segmaformer.export.own_network import onnx_network
from segmaformer.runtime.backends import open_session
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.package.reader import Package

Sgmf = Callable[..., Any]


@pytest.fixture
def documents(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "plans.json").write_text(json.dumps(plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    return (
        *("--plans", str(tmp_path / "plans.json")),
        *("--dataset-json", str(tmp_path / "dataset.json")),
    )


def test_the_command_exports_a_file(sgmf: Sgmf, tmp_path: Path, documents: tuple[str, ...]) -> None:
    target = tmp_path / "own.sgmf"
    run = sgmf("export", saved_onnx(tmp_path), "-o", target, *documents)
    assert run.code == 0, run.stderr
    assert "reference: ONNX Runtime float32 on the given file on" in run.stderr
    package = Package.open(target)
    manifest = package.manifest
    assert manifest.network.name == "onnx"
    assert "ONNX Runtime on that file, not PyTorch" in manifest.network.assumptions[0]
    assert manifest.variants["fp32"].parity["reference"].startswith("ONNX Runtime ")
    card = package.read("card.md").decode()
    assert "compared with ONNX Runtime float32 on the given file on" in card
    assert "compared with PyTorch" not in card
    tile = np.random.default_rng(1).normal(size=(1, *ONNX_INPUT)).astype(np.float32)
    expected = run_network(open_network((tmp_path / "network.onnx").read_bytes(), threads=1), tile)
    found = open_session(package, backend="onnxruntime").run(tile)
    np.testing.assert_allclose(found, expected[1], atol=2e-5 * np.ptp(expected[1]))


def test_a_graph_that_computes_something_else_is_refused(
    sgmf: Sgmf,
    tmp_path: Path,
    documents: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def altered(given: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
        graph = onnx.ModelProto()
        graph.CopyFrom(given)
        (weights,) = (each for each in graph.graph.initializer if each.name == "last")
        wrong = numpy_helper.to_array(weights) * np.float32(1.01)
        weights.CopyFrom(numpy_helper.from_array(wrong, weights.name))
        return graph, {}

    monkeypatch.setattr(pipeline, "apply_rewrites", altered)
    run = sgmf("export", saved_onnx(tmp_path), "-o", tmp_path / "own.sgmf", *documents)
    assert run.code == 4
    assert "fp32 does not match ONNX Runtime on the given file: logits differ by" in run.stderr
    assert not (tmp_path / "own.sgmf").exists()


def test_a_conversion_that_changes_the_network_is_refused(
    sgmf: Sgmf,
    tmp_path: Path,
    documents: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settled = onnx_network._settled

    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        graph = settled(model)
        (weights,) = (each for each in graph.graph.initializer if each.name == "last")
        values = numpy_helper.to_array(weights) * np.float32(1.01)
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))
        return graph

    monkeypatch.setattr(onnx_network, "_settled", wrong)
    run = sgmf("export", saved_onnx(tmp_path), "-o", tmp_path / "own.sgmf", *documents)
    assert run.code == 4
    assert "converted to opset 18, differs from the file by" in run.stderr
    assert not (tmp_path / "own.sgmf").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing says how scans are prepared for your network"),
        (("--patch-size", "8,8,8"), "--patch-size does not go with a network of your own"),
        (("--module-args", "{}"), "--module-args does not go with"),
        (("--set", "a=1"), "--set does not go with"),
    ],
)
def test_other_options(sgmf: Sgmf, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    run = sgmf("export", saved_onnx(tmp_path), "-o", tmp_path / "own.sgmf", *options)
    assert run.code in (2, 3)
    assert message in " ".join(run.stderr.split())
