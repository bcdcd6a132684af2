"""Models whose nodes are ops of sgmf/token_ops.h."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from support.graphs.token_op_cases import (
    Case,
    causal_case,
    concat_conv_case,
    conv_case,
    conv_transpose_case,
    depthwise_case,
    folded_norm_case,
    gelu_linear_add_case,
    linear_add_case,
    linear_upsample_add_case,
    norm_case,
    norm_linear_case,
    patch_case,
    relu_linear_case,
    rotary_case,
    upsample_add_case,
    upsample_case,
    upsample_nearest_case,
    volume_norm_add_case,
    volume_norm_case,
)

onnx = pytest.importorskip("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto

Node = tuple[str, Sequence[str], str, Mapping[str, Any]]
"""Op, inputs, output and attributes."""

CASES = (
    conv_case((2, 3, 4, 5, 23), 7),
    concat_conv_case((2, 3, 4, 5, 23), 4, 7),
    conv_transpose_case((2, 3, 4, 5, 23), 7, (2, 1, 2)),
    depthwise_case(2, 3, 4, 5, 23),
    norm_case("InstanceNormGelu", 2, 3, 4, 5, 23),
    norm_case("InstanceNormRelu", 2, 3, 4, 5, 23),
    norm_case("InstanceNormTokens", 2, 3, 4, 5, 23, alpha=0.01),
    volume_norm_case(2, 23, 3, 4, 5, alpha=0.01),
    volume_norm_add_case(2, 23, 3, 4, 5, alpha=0.01),
    upsample_add_case((2, 2, 3, 4, 23), (2, 2, 4)),
    upsample_case((2, 3, 2, 3, 4), (4, 2, 2)),
    upsample_nearest_case((2, 3, 2, 3, 4), (3, 1, 2)),
    causal_case((2, 30, 23), 4),
    patch_case((2, 3, 6, 7, 9), (13, 3, 3, 2, 4), (2, 3, 4), (1, 0, 2, 0, 1, 1)),
    rotary_case(2, 3, 4, 5, half=5),
    norm_linear_case((2, 3, 40), 23, 29),
    linear_add_case((2, 111), 23, 29),
    folded_norm_case((2, 111), 23, 24),
    gelu_linear_add_case((2, 3, 4, 5), 23, 29),
    relu_linear_case((2, 3, 4, 5), 23, 29),
    linear_upsample_add_case((2, 3, 4, 5), (2, 1, 3), 23, 29),
)

ATTRIBUTES = {
    "Conv3d": ("strides", "pads"),
    "ConcatConv3d": ("strides", "pads"),
    "ConvTranspose3d": ("strides",),
    "DepthwiseConv3d": ("group",),
    "InstanceNormGelu": ("epsilon",),
    "InstanceNormRelu": ("epsilon",),
    "InstanceNormTokens": ("epsilon", "alpha"),
    "InstanceNorm": ("epsilon", "alpha"),
    "InstanceNormAdd": ("epsilon", "alpha"),
    "UpsampleAdd": ("scales",),
    "Upsample": ("scales",),
    "UpsampleNearest": ("scales",),
    "CausalConv1dSilu": ("group", "pads"),
    "PatchEmbed": ("strides", "pads"),
    "RotaryNorm": ("epsilon",),
    "NormLinear": ("epsilon",),
    "LinearAdd": (),
    "FoldedNorm": ("epsilon",),
    "InstanceNormGeluLinearAdd": ("epsilon",),
    "InstanceNormReluLinear": ("epsilon",),
    "LinearUpsampleAdd": (),
}


def make_model(case: Case, *, batch: Any = None, **attributes: Any) -> Any:
    """Build a model of the case's node; `batch` replaces its batch if given."""
    given = {name: getattr(case.attributes, name) for name in ATTRIBUTES[case.op]} | attributes
    if "scales" in given:
        given["scales"] = [float(scale) for scale in given["scales"]]
    names = [f"input{i}" for i in range(len(case.inputs))]
    shapes = [list(array.shape) for array in case.inputs]
    if batch is not None:  # no parameter's channels are as many as the batch
        shapes = [[batch, *s[1:]] if s[0] == shapes[0][0] else s for s in shapes]
    inputs = dict(zip(names, shapes, strict=True))
    return _model([(case.op, names, "y", given)], inputs, ["y"])


def make_chain(
    nodes: Sequence[Node], inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> Any:
    """Build a model of several nodes."""
    return _model(nodes, {name: array.shape for name, array in inputs.items()}, outputs)


def _model(
    nodes: Sequence[Node], inputs: Mapping[str, Sequence[Any]], outputs: Sequence[str]
) -> Any:
    graph = helper.make_graph(
        [
            helper.make_node(op, given, [result], domain="segmaformer", **attributes)
            for op, given, result, attributes in nodes
        ],
        "ops",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("segmaformer", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
