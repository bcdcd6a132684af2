from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support.graphs.graphs import model_of, run

from segmaformer.export.rewrites import rewrite_for_cpu
from segmaformer.export.separate_ops import separate_layers
from segmaformer.export.token_ops import inline_token_functions

RANDOM = np.random.default_rng(0)
C, K = 8, 5
EXTENTS = (4, 6, 11)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def conv_model(
    weight: np.ndarray,
    attributes: dict[str, Any],
    extents: tuple[int, ...] = EXTENTS,
    made: tuple[int, ...] | None = None,
    *,
    bias: bool = True,
) -> onnx.ModelProto:
    inputs = ["x", "weight", "bias"] if bias else ["x", "weight"]
    constants = {"weight": weight, "bias": draw(len(weight))}
    channels = weight.shape[1] * attributes.get("group", 1)
    return model_of(
        [helper.make_node("Conv", inputs, ["y"], "conv", **attributes)],
        {name: constants[name] for name in inputs[1:]},
        x=["batch", channels, *extents],
        y=["batch", len(weight), *(made or extents)],
    )


SAME = {"pads": [1] * 6}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3, 3), SAME),
        ((3, 3, 3), {**SAME, "strides": [1] * 3, "dilations": [1] * 3, "group": 1}),
        ((1, 3, 3), {"pads": [0, 1, 1, 0, 1, 1], "kernel_shape": [1, 3, 3]}),
        ((3, 3, 3), {**SAME, "strides": [1, 2, 2]}),
        ((3, 3, 3), {**SAME, "strides": [2, 2, 2]}),
        ((1, 3, 3), {"pads": [0, 1, 1, 0, 1, 1], "strides": [1, 2, 2]}),
        ((1, 1, 1), {}),
        ((1, 1, 1), {"pads": [0] * 6, "strides": [1] * 3}),
    ],
)
def test_dense_convolutions_are_native(
    kernel: tuple[int, ...], attributes: dict[str, Any], bias: bool
) -> None:
    extents = (6, 14, 13) if kernel[2] > 1 else (12, 19, 18)
    strides = attributes.get("strides", [1] * 3)
    made = tuple(-(-n // step) for n, step in zip(extents, strides, strict=True))
    model = conv_model(draw(K, C, *kernel), attributes, extents, made, bias=bias)
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["volume_convolution"] == 1
    assert [node.op_type for node in rewritten.graph.node] == ["Conv3d"]
    assert rewritten.graph.node[0].name == "conv"  # calibration tells layers apart by it
    assert rewritten.graph.output[0].name == "y"
    x = {"x": draw(2, C, *extents)}
    expected = run(model, x)
    np.testing.assert_allclose(run(rewritten, x), expected, atol=1e-4)
    body = inline_token_functions(rewritten)
    assert {node.op_type for node in body.graph.node} == {"Conv"}
    np.testing.assert_allclose(run(body, x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "attributes", "extents", "made"),
    [
        ((K, 7, 3, 3, 3), SAME, EXTENTS, EXTENTS),
        ((K, C, 3, 3, 3), SAME, (6, 6, 6), (6, 6, 6)),
        ((K, C, 3, 3, 3), {"pads": [0] * 6}, (8, 8, 8), (6, 6, 6)),
        ((K, C, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 0]}, EXTENTS, (4, 6, 10)),
        ((K, C, 3, 3, 3), {**SAME, "strides": [1, 1, 2]}, (8, 8, 8), (8, 8, 4)),
        ((K, C, 3, 3, 3), {"pads": [2] * 6, "dilations": [2] * 3}, EXTENTS, EXTENTS),
        ((4, C, 3, 3, 3), {**SAME, "group": 2}, EXTENTS, EXTENTS),
        ((K, C, 3, 1, 3), {"pads": [1, 0, 1, 1, 0, 1]}, EXTENTS, EXTENTS),
        ((K, C, 1, 1, 1), {}, EXTENTS, EXTENTS),
        ((K, C, 1, 1, 1), {"strides": [2] * 3}, (32, 32, 36), (16, 16, 18)),
    ],
    ids=["few channels", "few tiles", "unpadded", "a pad", "stride", "dilation", "groups", "kernel",
         "few voxels", "stride of one tap"],
)  # fmt: skip
def test_others_are_left_alone(
    weight: tuple[int, ...],
    attributes: dict[str, Any],
    extents: tuple[int, ...],
    made: tuple[int, ...],
) -> None:
    model = conv_model(draw(*weight), attributes, extents, made)
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["volume_convolution"] == 0
    assert [node.op_type for node in rewritten.graph.node] == ["Conv"]


def test_computed_weights_and_unknown_extents_are_left_alone() -> None:
    computed = model_of(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], "mean", keepdims=0),
            helper.make_node("Mul", ["weight", "mean"], ["scaled"], "scaled"),
            helper.make_node("Conv", ["x", "scaled"], ["y"], "conv", **SAME),
        ],
        {"weight": draw(K, C, 3, 3, 3)},
        x=["batch", C, *EXTENTS],
        y=["batch", K, *EXTENTS],
    )
    unknown = conv_model(draw(K, C, 3, 3, 3), SAME, ("d", 6, 7))  # type: ignore[arg-type]
    for model in (computed, unknown):
        assert rewrite_for_cpu(model)[1]["volume_convolution"] == 0


def concatenation(
    readers: int = 1, parts: int = 2, axis: int = 1, *, elsewhere: bool = False
) -> onnx.ModelProto:
    makers = ["Relu", "Neg", "Abs"][:parts]
    names = [f"part{index}" for index in range(parts)]
    convs = [
        helper.make_node("Conv", ["both", "weight", "bias"], [f"c{i}"], f"conv{i}", **SAME)
        for i in range(readers)
    ]
    extents = list(EXTENTS)
    channels = C * parts if axis == 1 else C
    if elsewhere:
        convs.append(helper.make_node("ReduceMax", ["both"], ["most"], "most", keepdims=0))
    results = [f"c{i}" for i in range(readers)] + ["most"] * elsewhere
    extents[0] *= parts if axis == 2 else 1
    return model_of(
        [
            *map(helper.make_node, makers, [["x"]] * parts, [[name] for name in names], names),
            helper.make_node("Concat", names, ["both"], "concat", axis=axis),
            *convs,
            helper.make_node("Sum", results, ["y"], "sum"),
        ],
        {"weight": draw(K, channels, 3, 3, 3), "bias": draw(K)},
        x=["batch", C, *EXTENTS],
        y=["batch", K, *extents],
    )


def test_a_concatenation_goes_into_the_convolution_that_alone_reads_it() -> None:
    model = concatenation()
    rewritten, _ = rewrite_for_cpu(model)
    operators = [node.op_type for node in rewritten.graph.node]
    assert operators == ["Relu", "Neg", "ConcatConv3d", "Sum"]
    x = {"x": draw(2, C, *EXTENTS)}
    expected = run(model, x)
    np.testing.assert_allclose(run(rewritten, x), expected, atol=1e-4)
    body = inline_token_functions(rewritten)
    assert [node.op_type for node in body.graph.node][2:] == ["Concat", "Conv", "Sum"]
    np.testing.assert_allclose(run(body, x), expected, atol=1e-5)
    separate_layers(rewritten)
    assert [(n.op_type, n.name) for n in rewritten.graph.node][3] == ("Conv3d", "conv0")
    onnx.checker.check_model(rewritten)
    np.testing.assert_allclose(run(rewritten, x), expected, atol=1e-4)


def test_a_concatenation_goes_into_all_of_its_readers() -> None:
    model = concatenation(readers=2)
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["volume_convolution"] == 2
    operators = [node.op_type for node in rewritten.graph.node]
    assert operators == ["Relu", "Neg", "ConcatConv3d", "ConcatConv3d", "Sum"]
    x = {"x": draw(2, C, *EXTENTS)}
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-4)


@pytest.mark.parametrize("how", [{"parts": 3}, {"axis": 2}, {"elsewhere": True}], ids=str)
def test_other_concatenations_stay(how: dict[str, Any]) -> None:
    rewritten, counts = rewrite_for_cpu(concatenation(**how))
    assert counts["volume_convolution"] == 1
    assert {"Concat", "Conv3d"} <= {node.op_type for node in rewritten.graph.node}
