from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch")

from segmaformer.export.float16 import FLOAT32_OPS, float32_ladder, to_float16
from segmaformer.export.rewrites import apply_rewrites
from segmaformer.export.scan_op import scan_nodes


@pytest.fixture(scope="module")
def float32_graph(tiny_onnx: onnx.ModelProto) -> onnx.ModelProto:
    return apply_rewrites(tiny_onnx)[0]


@pytest.fixture(scope="module")
def typed(float32_graph: onnx.ModelProto) -> onnx.ModelProto:
    return to_float16(float32_graph)[0]


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every value, found by ONNX's strict inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=False)
    graph = inferred.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_interface_stays_float32(typed: onnx.ModelProto) -> None:
    for value in (*typed.graph.input, *typed.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [typed.graph.input[0].name, typed.graph.output[0].name] == ["tiles", "logits"]


def test_sums_and_norms_stay_float32(typed: onnx.ModelProto) -> None:
    types = element_types(typed)
    kept = [node for node in typed.graph.node if node.op_type in FLOAT32_OPS]
    assert {"LayerNormalization", "InstanceNormalization", "Softmax", "Resize"} <= {
        node.op_type for node in kept
    }
    assert {types[node.input[0]] for node in kept} == {TensorProto.FLOAT}


def test_products_are_float16(typed: onnx.ModelProto) -> None:
    types = element_types(typed)
    for node in typed.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert [types[name] for name in node.input] == [TensorProto.FLOAT16] * len(node.input)


def test_scan_keeps_its_parameters_in_float32(typed: onnx.ModelProto) -> None:
    types = element_types(typed)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    for scan in scan_nodes(typed):
        assert [types[name] for name in scan.input] == [
            *(half, half, single, half, half, single, half, single)
        ]


def test_the_last_rung_computes_everything_that_sums_in_float32(
    float32_graph: onnx.ModelProto,
) -> None:
    rungs = float32_ladder("segmaformer")
    kept = [rung.float32_ops for rung in rungs]
    assert all(less < more for less, more in itertools.pairwise(kept))
    typed, precision = to_float16(float32_graph, float32_ops=kept[-1])
    assert {precision[name] for name in ("Conv", "MatMul", "SelectiveScan")} == {"float32"}
    types = element_types(typed)
    for node in typed.graph.node:
        if node.op_type in ("Conv", "MatMul", "SelectiveScan"):
            assert {types[name] for name in node.input if name} == {TensorProto.FLOAT}


def mamba_between_convolutions() -> onnx.ModelProto:
    """Convolution, tokens, product and filter along the sequence, voxels, convolution."""
    rng = np.random.default_rng(0)
    shapes = {
        "first": (4, 1, 1, 1, 1),
        "filter": (4, 1, 3),
        "product": (4, 4),
        "last": (2, 4, 1, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["tiles", "first"], ["a"]),
        helper.make_node("Reshape", ["a", "sequence"], ["b"]),
        helper.make_node("Conv", ["b", "filter"], ["c"], group=4, pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["d", "product"], ["e"]),
        helper.make_node("Transpose", ["e"], ["f"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["f", "volume"], ["g"]),
        helper.make_node("Conv", ["g", "last"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, [1, 1, 2, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2, 2, 2, 2])],
        [
            *(
                numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
                for name, shape in shapes.items()
            ),
            numpy_helper.from_array(np.array([1, 4, 8]), "sequence"),
            numpy_helper.from_array(np.array([1, 4, 2, 2, 2]), "volume"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("network", "layers"), [("umamba-bot", "float32"), ("umamba-enc", "float32"), ("x", "float16")]
)
def test_mamba_layers_of_umamba_stay_in_float32_on_every_rung(network: str, layers: str) -> None:
    first = float32_ladder(network)[0]
    _, precision = to_float16(mamba_between_convolutions(), float32_ops=first.float32_ops)
    assert precision == {
        "Conv": "float16",
        **dict.fromkeys(("Conv1d", "MatMul", "Reshape", "Transpose"), layers),
    }
    assert ("Mamba layers" in first.name) is (layers == "float32")


def test_is_about_half_the_size(float32_graph: onnx.ModelProto, typed: onnx.ModelProto) -> None:
    weights = [sum(len(t.raw_data) for t in m.graph.initializer) for m in (float32_graph, typed)]
    assert weights[1] < 0.65 * weights[0]


def test_weight_beyond_float16_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "huge"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.full((1, 1), 1e5, np.float32), "huge")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ValueError, match="huge reaches 100000"):
        to_float16(model)
