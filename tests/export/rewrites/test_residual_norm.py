from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu
from segmaformer.export.token_ops import inline_token_functions

RANDOM = np.random.default_rng(0)
C = 6
SHAPE = ["batch", C, 3, 4, 5]
CONSTANTS = {
    "g": RANDOM.standard_normal(C).astype(np.float32),
    "b": RANDOM.standard_normal(C).astype(np.float32),
    "line": RANDOM.standard_normal(5).astype(np.float32),
}


def norm(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("InstanceNormalization", [x, "g", "b"], [y], y, epsilon=1e-3)


def leaky(x: str, alpha: float = 0.01) -> onnx.NodeProto:
    return helper.make_node("LeakyRelu", [x], ["y"], "after", alpha=alpha)


def add(*inputs: str, y: str = "sum") -> onnx.NodeProto:
    return helper.make_node("Add", inputs, [y], y)


def residual_model(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    other = helper.make_node("Abs", ["x"], ["rest"], "rest")
    return model_of([other, *nodes], CONSTANTS, x=SHAPE, y=SHAPE)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ([norm("x", "n"), add("n", "rest"), leaky("sum")], ["InstanceNormAdd"]),
        ([norm("x", "n"), add("rest", "n"), leaky("sum")], ["InstanceNormAdd"]),
        ([norm("x", "n"), add("n", "rest", y="y")], ["InstanceNormAdd"]),
        (
            [norm("x", "n"), add("n", "rest"), leaky("sum", 2.0)],
            ["InstanceNormAdd", "LeakyRelu"],
        ),
        (
            [norm("x", "n"), norm("rest", "m"), add("n", "m"), leaky("sum")],
            ["InstanceNorm", "InstanceNormAdd"],
        ),
        (
            [norm("x", "n"), helper.make_node("Relu", ["n"], ["r"], "r"), add("r", "rest", y="y")],
            ["InstanceNorm", "Add"],
        ),
        ([norm("x", "n"), add("n", "n", y="y")], ["InstanceNorm", "Add"]),
        ([norm("x", "n"), add("n", "line", y="y")], ["InstanceNorm", "Add"]),
        (
            [norm("x", "n"), add("n", "rest"), helper.make_node("Mul", ["n", "sum"], ["y"], "y")],
            ["InstanceNorm", "Add", "Mul"],
        ),
    ],
    ids=["leaky", "other side", "no activation", "steep", "both normed", "activated", "twice",
         "broadcast", "read elsewhere"],
)  # fmt: skip
def test_a_residual_goes_into_the_norm(nodes: list[Any], left: list[str]) -> None:
    model = residual_model(nodes)
    rewritten, counts = rewrite_for_cpu(model)
    assert [op for op in operators(rewritten) if op != "Abs"] == left
    assert counts["residual_norm"] == left.count("InstanceNormAdd")
    x = RANDOM.standard_normal((2, C, 3, 4, 5), dtype=np.float32)
    expected = run(model, {"x": x})
    for each in (rewritten, inline_token_functions(rewritten)):
        np.testing.assert_allclose(run(each, {"x": x}), expected, atol=1e-5)
