from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import TINY_CONFIG, TINY_TILE

torch = pytest.importorskip("torch")

from segmaformer.export.onnx_export import export_onnx
from segmaformer.export.rewrites import apply_rewrites, rewrite_for_cpu
from segmaformer.export.scan_op import scan_nodes
from segmaformer.models import create_model
from segmaformer.runtime.op_library import op_library_path


def run_onnx(model: onnx.ModelProto, tiles: np.ndarray, *, op_library: bool) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if op_library:
        options.register_custom_ops_library(str(op_library_path()))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    logits: np.ndarray = session.run(None, {"tiles": tiles})[0]
    return logits


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("segmaformer", **TINY_CONFIG).eval()


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module) -> onnx.ModelProto:
    return export_onnx(network, TINY_TILE, 1)


def test_graph_is_portable(exported: onnx.ModelProto) -> None:
    assert {entry.domain: entry.version for entry in exported.opset_import} == {
        "": 18,
        "segmaformer": 1,
    }
    assert exported.ir_version <= 10
    assert len(scan_nodes(exported)) == 3
    assert [function.name for function in exported.functions] == ["SelectiveScan"]


def test_only_the_filtered_sequence_is_transposed_for_the_scan(exported: onnx.ModelProto) -> None:
    # The causal filter is a convolution, which wants channels first.
    producers = {name: node for node in exported.graph.node for name in node.output}
    for scan in scan_nodes(exported):
        kinds = {name: producers[name].op_type for name in scan.input if name in producers}
        assert [name for name, kind in kinds.items() if kind == "Transpose"] == [scan.input[0]]
        readers = [node for node in exported.graph.node if scan.output[0] in node.input]
        assert [node.op_type for node in readers] == ["MatMul"]


def test_gate_bias_and_softplus_are_inside_the_scan(exported: onnx.ModelProto) -> None:
    assert not {"Softplus", "Log"} & {node.op_type for node in exported.graph.node}
    for scan in scan_nodes(exported):
        assert all(scan.input)
        assert len(scan.input) == 8
        assert {a.name: a.i for a in scan.attribute} == {"delta_softplus": 1, "reverse": 0}


def test_file_names_nothing_of_the_machine(exported: onnx.ModelProto) -> None:
    assert b"/" + b"site-packages" not in exported.SerializeToString()
    assert str(Path.home()).encode() not in exported.SerializeToString()
    assert b".py" not in exported.SerializeToString()


@pytest.mark.parametrize("op_library", [True, False], ids=["kernel", "function body"])
@pytest.mark.parametrize("batch", [1, 3])
def test_matches_pytorch(
    network: torch.nn.Module, exported: onnx.ModelProto, op_library: bool, batch: int
) -> None:
    tiles = np.random.default_rng(1).standard_normal((batch, 1, *TINY_TILE), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(tiles)).numpy()
    logits = run_onnx(exported, tiles, op_library=op_library)
    # Rounding of differently ordered float32 sums; logits are of order one.
    np.testing.assert_allclose(logits, expected, atol=2e-5)


@pytest.mark.parametrize("op_library", [True, False], ids=["kernel", "function body"])
@pytest.mark.parametrize(
    "name", ["segmaformer_brats_mhha_64", "segmaformer_btcv_fixed_mhha_32x96x96"]
)
def test_published_outputs(golden_dir: Path, name: str, op_library: bool) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("fill", golden_dir / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    golden = np.load(golden_dir / f"{name}.npz")
    model = create_model("segmaformer", **json.loads(str(golden["config"]))).eval()
    fill.load_into(model, int(golden["seed"]))
    tiles = fill.input(golden["input_shape"], int(golden["seed"]))
    exported, _ = apply_rewrites(export_onnx(model, tiles.shape[2:], tiles.shape[1]))
    exported, _ = rewrite_for_cpu(exported)
    stride = int(golden["stride"])
    logits = run_onnx(exported, tiles, op_library=op_library)[..., ::stride, ::stride, ::stride]
    assert np.abs(logits - golden["output"]).max() <= 4 * golden["noise"]
