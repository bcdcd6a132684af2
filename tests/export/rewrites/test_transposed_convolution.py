from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support.graphs.graphs import model_of, run

from segmaformer.export.rewrites import rewrite_for_cpu
from segmaformer.export.token_ops import inline_token_functions

RANDOM = np.random.default_rng(0)
C, K = 6, 5
EXTENTS = (6, 8, 11)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def transposed_model(
    weight: np.ndarray,
    attributes: dict[str, Any],
    made: tuple[int | str, ...],
    *,
    bias: bool = True,
    extents: tuple[int | str, ...] = EXTENTS,
) -> onnx.ModelProto:
    inputs = ["x", "weight", "bias"] if bias else ["x", "weight"]
    groups = attributes.get("group", 1)
    constants = {"weight": weight, "bias": draw(weight.shape[1] * groups)}
    return model_of(
        [helper.make_node("ConvTranspose", inputs, ["y"], "up", **attributes)],
        {name: constants[name] for name in inputs[1:]},
        x=["batch", len(weight), *extents],
        y=["batch", weight.shape[1] * groups, *made],
    )


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("strides", "attributes"),
    [
        ((2, 2, 2), {}),
        ((1, 2, 2), {"kernel_shape": [1, 2, 2], "output_padding": [0] * 3}),
        ((3, 2, 1), {"pads": [0] * 6, "dilations": [1] * 3, "group": 1}),
    ],
)
def test_blocks_of_voxels_are_native(
    strides: tuple[int, ...], attributes: dict[str, Any], bias: bool
) -> None:
    made = tuple(n * step for n, step in zip(EXTENTS, strides, strict=True))
    model = transposed_model(
        draw(C, K, *strides), attributes | {"strides": strides}, made, bias=bias
    )
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["transposed_convolution"] == 1
    assert [node.op_type for node in rewritten.graph.node] == ["ConvTranspose3d"]
    assert (rewritten.graph.node[0].name, rewritten.graph.output[0].name) == ("up", "y")
    x = {"x": draw(2, C, *EXTENTS)}
    expected = run(model, x)
    np.testing.assert_allclose(run(rewritten, x), expected, atol=1e-5)
    body = inline_token_functions(rewritten)
    assert [node.op_type for node in body.graph.node] == ["ConvTranspose"]
    np.testing.assert_allclose(run(body, x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "attributes", "made"),
    [
        ((C, K, 3, 3, 3), {"strides": [2] * 3}, (13, 17, 23)),
        ((C, K, 2, 2, 2), {"strides": [2, 2, 3]}, (12, 16, 32)),
        ((C, K, 2, 2, 3), {"strides": [2, 2, 3]}, (12, 16, 33)),
        ((C, K, 2, 2, 2), {"strides": [2] * 3, "pads": [0, 0, 0, 0, 0, 1]}, (12, 16, 21)),
        ((C, K, 2, 2, 2), {"strides": [2] * 3, "output_padding": [0, 0, 1]}, (12, 16, 23)),
        ((C, K, 2, 2, 2), {"strides": [2] * 3, "output_shape": [12, 16, 22]}, (12, 16, 22)),
        ((C, K, 2, 2, 2), {"strides": [2] * 3, "group": 2}, (12, 16, 22)),
        ((C, K, 2, 2, 2), {"strides": [2] * 3, "dilations": [2] * 3}, (13, 17, 23)),
    ],
    ids=["kernel", "stride", "three taps along the width", "a pad", "output padding",
         "output shape", "groups", "dilation"],
)  # fmt: skip
def test_others_are_left_alone(
    weight: tuple[int, ...], attributes: dict[str, Any], made: tuple[int, ...]
) -> None:
    rewritten, counts = rewrite_for_cpu(transposed_model(draw(*weight), attributes, made))
    assert counts["transposed_convolution"] == 0
    assert [node.op_type for node in rewritten.graph.node] == ["ConvTranspose"]


@pytest.mark.parametrize(
    ("extents", "made"),
    [((7, 8, 9), (14, 16, 18)), (("d", 8, 11), ("e", 16, 22))],
    ids=["few voxels", "unknown extents"],
)
def test_what_may_not_pay_is_left_alone(
    extents: tuple[int | str, ...], made: tuple[int | str, ...]
) -> None:
    weight = draw(C, K, 2, 2, 2)
    model = transposed_model(weight, {"strides": [2] * 3}, made, extents=extents)
    assert rewrite_for_cpu(model)[1]["transposed_convolution"] == 0


def test_one_axis_is_left_alone() -> None:
    model = model_of(
        [helper.make_node("ConvTranspose", ["x", "weight"], ["y"], "up", strides=[2])],
        {"weight": draw(C, K, 2)},
        x=["batch", C, 11],
        y=["batch", K, 22],
    )
    assert rewrite_for_cpu(model)[1]["transposed_convolution"] == 0


def test_a_concatenation_of_an_enlarged_volume_goes_into_its_convolution() -> None:
    made = [2 * n for n in EXTENTS]
    model = model_of(
        [
            helper.make_node("ConvTranspose", ["x", "up"], ["large"], "up", strides=[2] * 3),
            helper.make_node("Relu", ["large"], ["skip"], "skip"),
            helper.make_node("Concat", ["large", "skip"], ["both"], "concat", axis=1),
            helper.make_node("Conv", ["both", "weight"], ["y"], "conv", pads=[1] * 6),
        ],
        {"up": draw(C, K, 2, 2, 2), "weight": draw(3, 2 * K, 3, 3, 3)},
        x=["batch", C, *EXTENTS],
        y=["batch", 3, *made],
    )
    rewritten, _ = rewrite_for_cpu(model)
    operators = [node.op_type for node in rewritten.graph.node]
    assert operators == ["ConvTranspose3d", "Relu", "ConcatConv3d"]
    x = {"x": draw(2, C, *EXTENTS)}
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-4)
