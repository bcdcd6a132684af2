from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu

RANDOM = np.random.default_rng(0)
C = 6
EXTENTS = (2, 3, 4)
LENGTH = math.prod(EXTENTS)
TOKENS = RANDOM.standard_normal((2, LENGTH, C), dtype=np.float32)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], f"{output}_node", **attributes)


def gelu(source: str, result: str) -> list[NodeProto]:
    return [
        node("Div", f"{source} root_two", "divided"),
        node("Erf", "divided", "erf"),
        node("Add", "erf one", "erf_one"),
        node("Mul", "half erf_one", "halved"),
        node("Mul", f"{source} halved", result),
    ]


GELU = {
    "root_two": np.array(math.sqrt(2), np.float32),
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
}
NORM = {"g": weight(C), "b": weight(C)}
TO_VOLUME = {"grid": np.array([-1, C, *EXTENTS])}
TO_TOKENS = {"flat": np.array([-1, C, LENGTH])}


def between_tokens(
    middle: list[NodeProto], constants: dict[str, np.ndarray], result: str = "m"
) -> Any:
    """Build tokens to a channel-major volume, `middle` from ``v`` to `result`, back to tokens."""
    nodes = [
        node("Transpose", "x", "turned", perm=[0, 2, 1]),
        node("Reshape", "turned grid", "v"),
        *middle,
        node("Reshape", f"{result} flat", "flattened"),
        node("Transpose", "flattened", "y", perm=[0, 2, 1]),
        node("MatMul", "y w_out", "z"),
    ]
    constants = {**constants, **TO_VOLUME, **TO_TOKENS, "w_out": weight(C, 3)}
    nodes[-1].output[0] = "y"
    nodes[-2].output[0] = "tokens"
    nodes[-1].input[0] = "tokens"
    return model_of(nodes, constants, x=["batch", LENGTH, C], y=["batch", LENGTH, 3])


def depthwise(source: str = "v", **changes: Any) -> NodeProto:
    attributes = {"group": C, "pads": [1] * 6, **changes}
    return node("Conv", f"{source} w_dw", "m", **attributes)


DEPTHWISE = {"w_dw": weight(C, 1, 3, 3, 3)}
CASES: dict[str, tuple[Any, set[str]]] = {
    "depthwise": (between_tokens([depthwise()], DEPTHWISE), {"DepthwiseConv3d"}),
    "norm and GELU": (
        between_tokens(
            [node("InstanceNormalization", "v g b", "n", epsilon=1e-3), *gelu("n", "m")],
            {**NORM, **GELU},
        ),
        {"InstanceNormGelu"},
    ),
    "norm and ReLU": (
        between_tokens([node("InstanceNormalization", "v g b", "n"), node("Relu", "n", "m")], NORM),
        {"InstanceNormRelu"},
    ),
    "norm of all channels": (
        between_tokens(
            [
                node("Reshape", "v all", "long"),
                node("InstanceNormalization", "long one one", "n", epsilon=1e-3),
                node("Reshape", "n grid", "restored"),
                node("Mul", "restored g_volume", "scaled"),
                node("Add", "b_volume scaled", "m"),
            ],
            {
                "all": np.array([0, 1, -1]),
                "one": np.ones(1, np.float32),
                "g_volume": weight(C, 1, 1, 1),
                "b_volume": weight(C, 1, 1, 1),
            },
        ),
        {"InstanceNorm"},
    ),
    "pointwise": (
        between_tokens(
            [node("Conv", "v w_p b_p", "m")], {"w_p": weight(C, C, 1, 1, 1), "b_p": weight(C)}
        ),
        set(),
    ),
    "all in a row": (
        between_tokens(
            [
                node("Conv", "v w_dw b_dw", "d", group=C, pads=[1] * 6),
                node("InstanceNormalization", "d g b", "n"),
                *gelu("n", "a"),
                node("Conv", "a w_p", "m"),
            ],
            {**DEPTHWISE, **NORM, **GELU, "b_dw": weight(C), "w_p": weight(C, C, 1, 1, 1)},
        ),
        {"DepthwiseConv3d", "InstanceNormGelu"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_volumes_between_tokens_take_no_transpose(case: str) -> None:
    model, ops = CASES[case]
    rewritten, _ = rewrite_for_cpu(model)
    assert "Transpose" not in operators(rewritten)
    assert {n.op_type for n in rewritten.graph.node if n.domain} == ops
    # The same sums of order one, in another order.
    np.testing.assert_allclose(run(rewritten, {"x": TOKENS}), run(model, {"x": TOKENS}), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"strides": [1, 1, 2], "pads": [1, 1, 1, 1, 1, 2]}, {"dilations": [2] * 3, "pads": [2] * 6}],
)
def test_other_depthwise_convolutions_stay(changes: dict[str, Any]) -> None:
    nodes = [depthwise("x", **changes), node("Relu", "m", "y")]
    model = model_of(nodes, DEPTHWISE, x=["batch", C, *EXTENTS], y=["b", C, "d", "h", "w"])
    assert rewrite_for_cpu(model)[1]["token_major"] == 0


def test_a_depthwise_convolution_of_volumes_is_worth_two_transposes() -> None:
    nodes = [node("Relu", "x", "m"), node("Conv", "m w_dw", "y", group=C, pads=[1] * 6)]
    model = model_of(nodes, DEPTHWISE, x=["batch", C, *EXTENTS], y=["batch", C, *EXTENTS])
    rewritten, _ = rewrite_for_cpu(model)
    assert operators(rewritten) == ["Relu", "Transpose", "DepthwiseConv3d", "Transpose"]
    assert rewritten.graph.output[0].name == "y"
    x = weight(2, C, *EXTENTS)
    np.testing.assert_allclose(run(rewritten, {"x": x}), run(model, {"x": x}), atol=1e-5)


@pytest.mark.parametrize("pads", [[3, 0], [0, 3], [1, 2]])
def test_causal_convolutions(pads: list[int]) -> None:
    """Build the ops of a Mamba layer: projected from tokens, filtered, gated, back to tokens."""
    nodes = [
        node("Transpose", "x", "turned", perm=[0, 2, 1]),
        node("MatMul", "w_in turned", "sequence"),
        node("Conv", "sequence w_c b_c", "filtered", group=8, pads=pads),
        node("Sigmoid", "filtered", "gate"),
        node("Mul", "filtered gate", "gated"),
        node("Transpose", "gated", "tokens", perm=[0, 2, 1]),
        node("MatMul", "tokens w_out", "y"),
    ]
    constants = {"w_in": weight(8, C), "w_c": weight(8, 1, 4), "b_c": weight(8)}
    constants["w_out"] = weight(8, 3)
    model = model_of(nodes, constants, x=["batch", LENGTH, C], y=["batch", LENGTH, 3])
    rewritten, _ = rewrite_for_cpu(model)
    assert operators(rewritten) == ["MatMul", "CausalConv1dSilu", "MatMul"]
    np.testing.assert_allclose(run(rewritten, {"x": TOKENS}), run(model, {"x": TOKENS}), atol=2e-5)


def resize(source: str, result: str, **attributes: Any) -> NodeProto:
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", **attributes}
    return helper.make_node("Resize", [source, "", "scales"], [result], result, **attributes)


SCALES = {"scales": np.array([1, 1, 2, 3, 1], np.float32)}
LARGE = (4, 9, 4)


def test_a_sum_with_an_upsampled_map() -> None:
    nodes = [
        node("Transpose", "x", "turned", perm=[0, 2, 1]),
        node("Reshape", "turned grid", "v"),
        resize("v", "large"),
        node("Mul", "v half", "smaller"),
        node("Transpose", "smaller", "smaller_tokens", perm=[0, 2, 3, 4, 1]),
        node("MatMul", "smaller_tokens w_p", "product"),
        node("Reshape", "product fine_grid", "fine_flat"),
        node("Transpose", "fine_flat", "fine", perm=[0, 4, 1, 2, 3]),
        node("Add", "large fine", "sum"),
        node("Transpose", "sum", "y", perm=[0, 2, 3, 4, 1]),
    ]
    constants = {**TO_VOLUME, **SCALES, "half": np.array(0.5, np.float32)}
    constants["w_p"] = weight(C, C * 6)
    constants["fine_grid"] = np.array([-1, *LARGE, C])
    model = model_of(nodes, constants, x=["batch", LENGTH, C], y=["batch", *LARGE, C])
    rewritten, _ = rewrite_for_cpu(model)
    assert "UpsampleAdd" in operators(rewritten)
    np.testing.assert_allclose(run(rewritten, {"x": TOKENS}), run(model, {"x": TOKENS}), atol=1e-5)
