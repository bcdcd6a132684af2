from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from support.graphs.graphs import run

from segmaformer.export.rewrites import apply_rewrites
from segmaformer.export.rewrites.repeated_constants import store_repeats_once

RANDOM = np.random.default_rng(0)


def constant_model(array: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "table"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, array.shape)],
        [numpy_helper.from_array(array, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_repeats_are_stored_once() -> None:
    row = RANDOM.standard_normal((1, 40, 1, 30)).astype(np.float32)
    model = constant_model(np.broadcast_to(row, (25, 40, 20, 30)).copy())
    smaller, counts = apply_rewrites(model)
    assert counts["repeated_constants"] == 1
    assert smaller.ByteSize() < model.ByteSize() / 100
    x = np.ones(1, np.float32)
    np.testing.assert_array_equal(run(smaller, {"x": x}), run(model, {"x": x}))


def test_constants_without_repeats_stay() -> None:
    model = ir.from_proto(constant_model(RANDOM.standard_normal((64, 96)).astype(np.float32)))
    assert store_repeats_once(model.graph) == 0
