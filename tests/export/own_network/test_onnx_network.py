"""Networks in ONNX files: exported, or refused before anything of them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.graphs.onnx_files import FREE, ONNX_INPUT, ONNX_LOGITS, saved_onnx
from support.networks.nnunet_folders import TILE

torch = pytest.importorskip("torch")

from segmaformer.export.own_network.onnx_network import read_onnx
from segmaformer.export.scan_op import DOMAIN, scan_nodes
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.reader import Package


@pytest.mark.parametrize("opset", [13, 18, 20])
@pytest.mark.parametrize("extents", [FREE, (1, 1, *TILE), ("b", 1, *TILE)])
def test_the_file_is_the_reference_and_its_graph_the_export(
    tmp_path: Path, opset: int, extents: tuple[Any, ...]
) -> None:
    path = saved_onnx(tmp_path, opset=opset, extents=extents)
    found = read_onnx(path, ONNX_INPUT, ONNX_LOGITS)
    tile = np.random.default_rng(1).normal(size=(1, *ONNX_INPUT)).astype(np.float32)
    session = open_network(path.read_bytes(), threads=1)
    expected = run_network(session, tile)[1]
    np.testing.assert_array_equal(found(torch.from_numpy(tile)).numpy(), expected)
    careful = found(torch.from_numpy(tile).double())
    assert careful.dtype == torch.float64
    np.testing.assert_allclose(careful.numpy(), expected, atol=1e-5 * np.ptp(expected))
    graph = found.graph
    assert [graph.graph.input[0].name, *(o.name for o in graph.graph.output)] == [
        "tiles",
        "logits",
    ]
    assert [each.version for each in graph.opset_import if not each.domain] == [18]
    (logits,) = run_network(open_network(graph.SerializeToString(), threads=1), tile)
    np.testing.assert_allclose(logits, expected, atol=1e-6 * np.ptp(expected))


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Relux"


def foreign_operator_within(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Evil", [], ["y"], domain="x")], "g", [], [])
    model.graph.node.append(
        helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)
    )


def function_that_calls_itself(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("x", 1)]
    again = helper.make_node("F", ["a"], ["b"], domain="x")
    model.functions.append(helper.make_function("x", "F", ["a"], ["b"], [again], opsets))
    model.opset_import.append(opsets[1])
    model.graph.node[2].domain, model.graph.node[2].op_type = "x", "F"


def float16_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def data_elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def only_features(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": second_input}, "has the inputs volume, more; expected one"),
        ({"change": foreign_operator}, "has the operator 'com.evil::Relu'"),
        ({"change": unknown_operator}, "has the operator 'Relux'"),
        ({"change": foreign_operator_within}, "has the operator 'x::Evil'"),
        ({"change": function_that_calls_itself}, "has the function 'x::F'; expected operators"),
        ({"change": float16_input}, "takes FLOAT16 of 5 axes"),
        ({"change": data_elsewhere}, "external_data=False"),
        ({"change": only_features}, r"gives \(0, 4, 16, 16, 16\) .* expected \(3, 16, 16, 16\)"),
        ({"extents": (1, 2, *TILE)}, r"takes tiles of \(1, 2, 16, 16, 16\); its use states"),
        ({"extents": (2, 1, *TILE)}, r"takes tiles of \(2, 1, .* a batch that is free or one"),
        ({"extents": (1, 1, 8, 16, 16)}, r"takes tiles of \(1, 1, 8, 16, 16\)"),
        ({"extents": (1, 1, 16, 16)}, "of 4 axes"),
    ],
)
def test_what_cannot_be_exported(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_onnx(saved_onnx(tmp_path, **options), ONNX_INPUT, ONNX_LOGITS)


def test_a_network_with_scans_of_a_package_can_be_given(tiny_package_path: Path) -> None:
    manifest = Package.open(tiny_package_path).manifest
    path = tiny_package_path / "fp32.onnx"
    found = read_onnx(path, manifest.input_shape, manifest.logits_shape)
    assert len(scan_nodes(found.graph)) == 3
    assert {node.domain for node in found.graph.graph.node} == {"", DOMAIN}
    tile = np.random.default_rng(1).normal(size=(1, *manifest.input_shape)).astype(np.float32)
    (expected,) = run_network(open_network(path.read_bytes(), threads=1), tile)
    (logits,) = run_network(open_network(found.graph.SerializeToString(), threads=1), tile)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04evil", b"\xff" * 100])
def test_what_is_no_onnx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"network\.onnx"):
        read_onnx(tmp_path / "network.onnx", ONNX_INPUT, ONNX_LOGITS)
