"""Names and ONNX function bodies of the CPU's ops beside the scan.

They take and give float32 volumes token-major, channels innermost, as the scan does: (B, D, H, W,
C) or (B, L, C). Exceptions: the patch embedding reads channel-major volumes, the instance norm
without GELU exists for those too, and dense convolutions for those alone. ONNX Runtime runs the
op library's kernel if it is registered; all others, such as TensorRT and ONNX Runtime on a GPU, run
the body's standard operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import AttributeProto, NodeProto, helper, inliner

from segmaformer.export.scan_op import DOMAIN, OPSET, VERSION

CONV = "Conv3d"
CONCAT_CONV = "ConcatConv3d"
CONV_TRANSPOSE = "ConvTranspose3d"
DEPTHWISE_CONV = "DepthwiseConv3d"
CAUSAL_CONV_SILU = "CausalConv1dSilu"
INSTANCE_NORM_GELU = "InstanceNormGelu"
INSTANCE_NORM_RELU = "InstanceNormRelu"
INSTANCE_NORM = "InstanceNorm"
INSTANCE_NORM_ADD = "InstanceNormAdd"
PATCH_EMBED = "PatchEmbed"
UPSAMPLE = "Upsample"
UPSAMPLE_NEAREST = "UpsampleNearest"
ROTARY_NORM = "RotaryNorm"
NORM_LINEAR = "NormLinear"
LINEAR_ADD = "LinearAdd"
FOLDED_NORM = "FoldedNorm"
GELU_LINEAR_ADD = "InstanceNormGeluLinearAdd"
RELU_LINEAR = "InstanceNormReluLinear"
LINEAR_UPSAMPLE_ADD = "LinearUpsampleAdd"
COARSE = ("first", "second", "third")
UPSAMPLE_ADD = "UpsampleAdd"

TO_CHANNELS = [0, 4, 1, 2, 3]
TO_TOKENS = [0, 2, 3, 4, 1]

LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
"""Attributes of a Resize, between the centres of voxels and by repeating them."""


def add_token_functions(model: onnx.ModelProto) -> None:
    """Add the bodies of those ops of this module that `model` uses, in place."""
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    present = {function.name for function in model.functions if function.domain == DOMAIN}
    model.functions.extend(
        body() for name, body in _BODIES.items() if name in used and name not in present
    )
    if used and DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))


def inline_token_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy `model` with standard operators in place of these ops; the scan stays an op."""
    present = {(function.domain, function.name) for function in model.functions}
    names = [(DOMAIN, name) for name in _BODIES if (DOMAIN, name) in present]
    if not names:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    return inliner.inline_selected_functions(model, names)


def _conv() -> onnx.FunctionProto:
    conv = helper.make_node("Conv", ["x", "weight", "bias"], ["y"])
    ints = AttributeProto.INTS
    return _function(
        CONV,
        ("x", "weight", "bias"),
        {"strides": ints, "pads": ints},
        [_with_references(conv, strides=("strides", ints), pads=("pads", ints))],
    )


def _concat_conv() -> onnx.FunctionProto:
    conv = helper.make_node("Conv", ["both", "weight", "bias"], ["y"])
    ints = AttributeProto.INTS
    return _function(
        CONCAT_CONV,
        ("x", "weight", "bias", "rest"),
        {"strides": ints, "pads": ints},
        [
            helper.make_node("Concat", ["x", "rest"], ["both"], axis=1),
            _with_references(conv, strides=("strides", ints), pads=("pads", ints)),
        ],
    )


def _conv_transpose() -> onnx.FunctionProto:
    conv = helper.make_node("ConvTranspose", ["x", "weight", "bias"], ["y"])
    ints = AttributeProto.INTS
    return _function(
        CONV_TRANSPOSE,
        ("x", "weight", "bias"),
        {"strides": ints},
        [_with_references(conv, strides=("strides", ints))],
    )


def _depthwise_conv() -> onnx.FunctionProto:
    return _function(
        DEPTHWISE_CONV,
        ("x", "weight", "bias"),
        {"group": AttributeProto.INT},
        [
            helper.make_node("Transpose", ["x"], ["volume"], perm=TO_CHANNELS),
            _with_references(
                helper.make_node(
                    "Conv",
                    ["volume", "weight", "bias"],
                    ["filtered"],
                    kernel_shape=[3] * 3,
                    pads=[1] * 6,
                ),
                group=("group", AttributeProto.INT),
            ),
            helper.make_node("Transpose", ["filtered"], ["y"], perm=TO_TOKENS),
        ],
    )


def _causal_conv_silu() -> onnx.FunctionProto:
    conv = helper.make_node("Conv", ["sequence", "weight", "bias"], ["filtered"])
    return _function(
        CAUSAL_CONV_SILU,
        ("x", "weight", "bias"),
        {"group": AttributeProto.INT, "pads": AttributeProto.INTS},
        [
            helper.make_node("Transpose", ["x"], ["sequence"], perm=[0, 2, 1]),
            _with_references(
                conv, group=("group", AttributeProto.INT), pads=("pads", AttributeProto.INTS)
            ),
            helper.make_node("Sigmoid", ["filtered"], ["gate"]),
            helper.make_node("Mul", ["filtered", "gate"], ["activated"]),
            helper.make_node("Transpose", ["activated"], ["y"], perm=[0, 2, 1]),
        ],
    )


def _patch_embed() -> onnx.FunctionProto:
    conv = helper.make_node("Conv", ["x", "weight", "bias"], ["embedded"])
    ints = AttributeProto.INTS
    return _function(
        PATCH_EMBED,
        ("x", "weight", "bias"),
        {"strides": ints, "pads": ints},
        [
            _with_references(conv, strides=("strides", ints), pads=("pads", ints)),
            helper.make_node("Transpose", ["embedded"], ["y"], perm=TO_TOKENS),
        ],
    )


def _instance_norm_gelu() -> onnx.FunctionProto:
    return _token_norm(INSTANCE_NORM_GELU, _gelu("y"))


def _gelu(result: str) -> list[NodeProto]:
    """Return nodes for GELU of ``normed``."""
    return [
        *_constants(root_two=math.sqrt(2), one=1.0, half=0.5),
        helper.make_node("Div", ["normed", "root_two"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["erf_plus_one"]),
        helper.make_node("Mul", ["half", "erf_plus_one"], ["probability"]),
        helper.make_node("Mul", ["normed", "probability"], [result]),
    ]


def _instance_norm_relu() -> onnx.FunctionProto:
    return _token_norm(INSTANCE_NORM_RELU, [helper.make_node("Relu", ["normed"], ["y"])])


def _token_norm(name: str, activation: Sequence[NodeProto]) -> onnx.FunctionProto:
    return _function(
        name,
        ("x", "scale", "bias"),
        {"epsilon": AttributeProto.FLOAT},
        [*_normalised((3, 2, 1), "scale", "bias"), *activation],
    )


def _instance_norm() -> onnx.FunctionProto:
    return _volume_norm(INSTANCE_NORM, ("x", "scale", "bias"), [], "normed")


def _instance_norm_add() -> onnx.FunctionProto:
    total = helper.make_node("Add", ["normed", "rest"], ["sum"])
    return _volume_norm(INSTANCE_NORM_ADD, ("x", "scale", "bias", "rest"), [total], "sum")


def _volume_norm(
    name: str, inputs: Sequence[str], between: Sequence[NodeProto], activated: str
) -> onnx.FunctionProto:
    slope = helper.make_node("LeakyRelu", [activated], ["y"])
    return _function(
        name,
        inputs,
        {"epsilon": AttributeProto.FLOAT, "alpha": AttributeProto.FLOAT},
        [
            helper.make_node("Constant", [], ["spatial"], value_ints=[1, 2, 3]),
            helper.make_node("Unsqueeze", ["scale", "spatial"], ["volume_scale"]),
            helper.make_node("Unsqueeze", ["bias", "spatial"], ["volume_bias"]),
            *_normalised((4, 3, 2), "volume_scale", "volume_bias"),
            *between,
            _with_references(slope, alpha=("alpha", AttributeProto.FLOAT)),
        ],
    )


def _normalised(axes: Sequence[int], scale: str, bias: str) -> list[NodeProto]:
    """Return nodes for the norm of ``x`` over `axes`, called ``normed``.

    A mean is taken along one axis at a time: runtimes sum all values of a mean in one float32
    accumulator, which loses less the fewer they are.
    """
    epsilon = helper.make_node("Constant", [], ["epsilon_value"])
    return [
        *(helper.make_node("Constant", [], [f"axis_{n}"], value_ints=[n]) for n in axes),
        *_mean("x", "mean", axes),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        *_mean("squares", "variance", axes),
        _with_references(epsilon, value_float=("epsilon", AttributeProto.FLOAT)),
        helper.make_node("Add", ["variance", "epsilon_value"], ["safe_variance"]),
        helper.make_node("Sqrt", ["safe_variance"], ["deviation"]),
        helper.make_node("Div", [scale, "deviation"], ["gain"]),
        helper.make_node("Mul", ["centred", "gain"], ["unshifted"]),
        helper.make_node("Add", ["unshifted", bias], ["normed"]),
    ]


def _mean(source: str, result: str, axes: Sequence[int]) -> list[NodeProto]:
    names = [source, *(f"{result}_over_{axis}" for axis in axes[:-1]), result]
    return [
        helper.make_node("ReduceMean", [before, f"axis_{axis}"], [after])
        for before, axis, after in zip(names, axes, names[1:], strict=False)
    ]


def _upsample() -> onnx.FunctionProto:
    return _function(UPSAMPLE, ("x",), {"scales": AttributeProto.FLOATS}, _trilinear("x", "y"))


def _upsample_nearest() -> onnx.FunctionProto:
    nodes = _resize("x", "y", "scales", NEAREST)
    return _function(UPSAMPLE_NEAREST, ("x",), {"scales": AttributeProto.FLOATS}, nodes)


def _upsample_add() -> onnx.FunctionProto:
    return _function(
        UPSAMPLE_ADD,
        ("x", "y"),
        {"scales": AttributeProto.FLOATS},
        [
            helper.make_node("Transpose", ["x"], ["volume"], perm=TO_CHANNELS),
            *_trilinear("volume", "upsampled"),
            helper.make_node("Transpose", ["upsampled"], ["tokens"], perm=TO_TOKENS),
            helper.make_node("Add", ["tokens", "y"], ["sum"]),
        ],
        output="sum",
    )


def _trilinear(source: str, result: str, scales: str = "scales") -> list[NodeProto]:
    """Return nodes that upsample a channel-major volume linearly by the attribute `scales`."""
    return _resize(source, result, scales, LINEAR)


def _resize(source: str, result: str, scales: str, how: Mapping[str, str]) -> list[NodeProto]:
    """Return nodes that enlarge a channel-major volume by the attribute `scales`."""
    neutral, spatial, every = (f"{result}_{part}" for part in ("neutral", "spatial", "scales"))
    return [
        helper.make_node("Constant", [], [neutral], value_floats=[1.0, 1.0]),
        _with_references(
            helper.make_node("Constant", [], [spatial]),
            value_floats=(scales, AttributeProto.FLOATS),
        ),
        helper.make_node("Concat", [neutral, spatial], [every], axis=0),
        helper.make_node("Resize", [source, "", every], [result], **how),
    ]


def _rotary_norm() -> onnx.FunctionProto:
    axes = ("depth", "height", "width")
    nodes = [
        helper.make_node("Shape", ["x"], ["extents"], start=1, end=4),
        helper.make_node("Split", ["x"], list(axes), axis=-1, num_outputs=3),
    ]
    for table in ("cos", "sin"):
        rows = [f"{axis}_{table}_rows" for axis in axes]
        nodes.append(helper.make_node("Split", [table, "extents"], rows, axis=0))
    for axis, others in zip(axes, ([1, 2], [0, 2], [0, 1]), strict=True):
        nodes += _turned(axis, others)
    norm = helper.make_node("LayerNormalization", ["turned", "scale", "shift"], ["y"])
    return _function(
        ROTARY_NORM,
        ("x", "cos", "sin", "scale", "shift"),
        {"epsilon": AttributeProto.FLOAT},
        [
            *nodes,
            helper.make_node("Concat", [f"{axis}_turned" for axis in axes], ["turned"], axis=-1),
            _with_references(norm, epsilon=("epsilon", AttributeProto.FLOAT)),
        ],
    )


def _turned(axis: str, others: Sequence[int]) -> list[NodeProto]:
    """Return nodes that turn the channels of an axis by its rows, which know no `others`."""
    u, v, swapped, unknown = (f"{axis}_{part}" for part in ("u", "v", "swapped", "others"))
    factors = {"cos": axis, "sin": swapped}
    nodes = [
        helper.make_node("Split", [axis], [u, v], axis=-1, num_outputs=2),
        helper.make_node("Concat", [v, u], [swapped], axis=-1),
        helper.make_node("Constant", [], [unknown], value_ints=others),
    ]
    for table, value in factors.items():
        name = f"{axis}_{table}"
        nodes += [
            helper.make_node("Unsqueeze", [f"{name}_rows", unknown], [name]),
            helper.make_node("Mul", [value, name], [f"{name}_part"]),
        ]
    parts = [f"{axis}_{table}_part" for table in factors]
    return [*nodes, helper.make_node("Add", parts, [f"{axis}_turned"])]


def _norm_linear() -> onnx.FunctionProto:
    norm = helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["normed"])
    return _function(
        NORM_LINEAR,
        ("x", "weight", "bias", "scale", "shift"),
        {"epsilon": AttributeProto.FLOAT},
        [
            _with_references(norm, epsilon=("epsilon", AttributeProto.FLOAT)),
            *_product("normed", "y"),
        ],
    )


def _linear_add() -> onnx.FunctionProto:
    total = helper.make_node("Add", ["biased", "rest"], ["y"])
    nodes = [*_product("x", "biased"), total]
    return _function(LINEAR_ADD, ("x", "weight", "bias", "rest"), {}, nodes)


def _folded_norm() -> onnx.FunctionProto:
    epsilon = helper.make_node("Constant", [], ["epsilon_value"])
    return _function(
        FOLDED_NORM,
        ("x", "weight", "bias"),
        {"epsilon": AttributeProto.FLOAT},
        [
            *_product("x", "spread"),
            helper.make_node("Constant", [], ["last_axis"], value_ints=[-1]),
            helper.make_node("ReduceSumSquare", ["spread", "last_axis"], ["variance"]),
            _with_references(epsilon, value_float=("epsilon", AttributeProto.FLOAT)),
            helper.make_node("Add", ["variance", "epsilon_value"], ["safe_variance"]),
            helper.make_node("Sqrt", ["safe_variance"], ["deviation"]),
            helper.make_node("Div", ["x", "deviation"], ["normed"]),
            helper.make_node("Reciprocal", ["deviation"], ["one"]),
            helper.make_node("Concat", ["normed", "one"], ["y"], axis=-1),
        ],
    )


def _gelu_linear_add() -> onnx.FunctionProto:
    return _function(
        GELU_LINEAR_ADD,
        ("x", "weight", "bias", "scale", "shift", "rest"),
        {"epsilon": AttributeProto.FLOAT},
        [
            *_normalised((3, 2, 1), "scale", "shift"),
            *_gelu("activated"),
            *_product("activated", "biased"),
            helper.make_node("Add", ["biased", "rest"], ["y"]),
        ],
    )


def _relu_linear() -> onnx.FunctionProto:
    return _function(
        RELU_LINEAR,
        ("x", "weight", "bias", "scale", "shift"),
        {"epsilon": AttributeProto.FLOAT},
        [
            *_normalised((3, 2, 1), "scale", "shift"),
            helper.make_node("Relu", ["normed"], ["activated"]),
            *_product("activated", "y"),
        ],
    )


def _linear_upsample_add() -> onnx.FunctionProto:
    nodes = _product("x", "sum")
    total = "sum"
    for name in COARSE:
        sum_with = "y" if name == COARSE[-1] else f"sum_with_{name}"
        nodes += [
            helper.make_node("Transpose", [name], [f"{name}_volume"], perm=TO_CHANNELS),
            *_trilinear(f"{name}_volume", f"{name}_upsampled", f"{name}_scales"),
            helper.make_node(
                "Transpose", [f"{name}_upsampled"], [f"{name}_tokens"], perm=TO_TOKENS
            ),
            helper.make_node("Add", [total, f"{name}_tokens"], [sum_with]),
        ]
        total = sum_with
    attributes = {f"{name}_scales": AttributeProto.FLOATS for name in COARSE}
    return _function(LINEAR_UPSAMPLE_ADD, ("x", "weight", "bias", *COARSE), attributes, nodes)


def _product(source: str, result: str) -> list[NodeProto]:
    """Return nodes for the product with ``weight`` and the sum with ``bias``."""
    return [
        helper.make_node("MatMul", [source, "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], [result]),
    ]


def _function(
    name: str,
    inputs: Sequence[str],
    attributes: Mapping[str, int],
    nodes: Sequence[NodeProto],
    *,
    output: str = "y",
) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_function(
        DOMAIN, name, list(inputs), [output], list(nodes), opsets, attributes=list(attributes)
    )


def _with_references(node: NodeProto, **references: tuple[str, int]) -> NodeProto:
    """Let attributes of `node` be those of the function's caller."""
    for name, (caller, kind) in references.items():
        node.attribute.add(name=name, ref_attr_name=caller, type=kind)
    return node


def _constants(**values: float) -> list[NodeProto]:
    return [
        helper.make_node("Constant", [], [name], value_float=value)
        for name, value in values.items()
    ]


_BODIES: dict[str, Callable[[], onnx.FunctionProto]] = {
    CONV: _conv,
    CONCAT_CONV: _concat_conv,
    CONV_TRANSPOSE: _conv_transpose,
    DEPTHWISE_CONV: _depthwise_conv,
    CAUSAL_CONV_SILU: _causal_conv_silu,
    INSTANCE_NORM_GELU: _instance_norm_gelu,
    INSTANCE_NORM_RELU: _instance_norm_relu,
    INSTANCE_NORM: _instance_norm,
    INSTANCE_NORM_ADD: _instance_norm_add,
    PATCH_EMBED: _patch_embed,
    UPSAMPLE: _upsample,
    UPSAMPLE_NEAREST: _upsample_nearest,
    UPSAMPLE_ADD: _upsample_add,
    ROTARY_NORM: _rotary_norm,
    NORM_LINEAR: _norm_linear,
    LINEAR_ADD: _linear_add,
    FOLDED_NORM: _folded_norm,
    GELU_LINEAR_ADD: _gelu_linear_add,
    RELU_LINEAR: _relu_linear,
    LINEAR_UPSAMPLE_ADD: _linear_upsample_add,
}
