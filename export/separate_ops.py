"""Ops that hold a concatenation or product, written as its parts again.

A layer that becomes int8 must be a node of its own, with its inputs and output in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import NodeProto, helper

from segmaformer.export.scan_op import DOMAIN
from segmaformer.export.token_ops import (
    COARSE,
    CONCAT_CONV,
    CONV,
    GELU_LINEAR_ADD,
    INSTANCE_NORM_GELU,
    INSTANCE_NORM_RELU,
    LINEAR_ADD,
    LINEAR_UPSAMPLE_ADD,
    NORM_LINEAR,
    RELU_LINEAR,
    UPSAMPLE_ADD,
    add_token_functions,
)


def separate_layers(model: onnx.ModelProto) -> None:
    """Give each dense convolution and product of tokens a node of its own, in place.

    What stood around it in one op becomes standard operators or the smaller ops of this project.
    """
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        parts = _PARTS.get(node.op_type) if node.domain == DOMAIN else None
        model.graph.node.extend([node] if parts is None else parts(node))
    add_token_functions(model)


def _concat_conv(node: NodeProto) -> Iterator[NodeProto]:
    x, weight, bias, rest = node.input
    both = f"{node.output[0]}_inputs"
    yield helper.make_node("Concat", [x, rest], [both], both, axis=1)
    conv = NodeProto()
    conv.CopyFrom(node)
    conv.op_type = CONV
    conv.input[:] = [both, weight, bias]
    yield conv


def _norm_linear(node: NodeProto) -> Iterator[NodeProto]:
    x, weight, bias, scale, shift = node.input
    normed = f"{node.output[0]}_normed"
    yield _with_attributes(node, "LayerNormalization", [x, scale, shift], normed)
    yield from _product(normed, weight, bias, node.output[0])


def _linear_add(node: NodeProto) -> Iterator[NodeProto]:
    x, weight, bias, rest = node.input
    yield from _product_and_sum(x, weight, bias, rest, node.output[0])


def _gelu_linear_add(node: NodeProto) -> Iterator[NodeProto]:
    x, weight, bias, scale, shift, rest = node.input
    activated = f"{node.output[0]}_activated"
    yield _with_attributes(node, INSTANCE_NORM_GELU, [x, scale, shift], activated, DOMAIN)
    yield from _product_and_sum(activated, weight, bias, rest, node.output[0])


def _relu_linear(node: NodeProto) -> Iterator[NodeProto]:
    x, weight, bias, scale, shift = node.input
    activated = f"{node.output[0]}_activated"
    yield _with_attributes(node, INSTANCE_NORM_RELU, [x, scale, shift], activated, DOMAIN)
    yield from _product(activated, weight, bias, node.output[0])


def _linear_upsample_add(node: NodeProto) -> Iterator[NodeProto]:
    x, weight, bias, *coarse = node.input
    total = f"{node.output[0]}_biased"
    yield from _product(x, weight, bias, total)
    scales = {attribute.name: list(attribute.floats) for attribute in node.attribute}
    for name, volume in zip(COARSE, coarse, strict=True):
        result = node.output[0] if name == COARSE[-1] else f"{node.output[0]}_with_{name}"
        yield helper.make_node(
            UPSAMPLE_ADD,
            [volume, total],
            [result],
            result,
            domain=DOMAIN,
            scales=scales[f"{name}_scales"],
        )
        total = result


def _product(x: str, weight: str, bias: str, result: str) -> Iterator[NodeProto]:
    product = f"{result}_product"
    yield helper.make_node("MatMul", [x, weight], [product], product)
    yield helper.make_node("Add", [product, bias], [result], f"{result}_bias")


def _product_and_sum(x: str, weight: str, bias: str, rest: str, result: str) -> Iterator[NodeProto]:
    biased = f"{result}_biased"
    yield from _product(x, weight, bias, biased)
    yield helper.make_node("Add", [biased, rest], [result], f"{result}_sum")


def _with_attributes(
    node: NodeProto, op_type: str, inputs: list[str], result: str, domain: str = ""
) -> NodeProto:
    """Make a node with the attributes of another."""
    part = helper.make_node(op_type, inputs, [result], result, domain=domain)
    part.attribute.extend(node.attribute)
    return part


_PARTS: dict[str, Callable[[NodeProto], Iterator[NodeProto]]] = {
    CONCAT_CONV: _concat_conv,
    NORM_LINEAR: _norm_linear,
    LINEAR_ADD: _linear_add,
    GELU_LINEAR_ADD: _gelu_linear_add,
    RELU_LINEAR: _relu_linear,
    LINEAR_UPSAMPLE_ADD: _linear_upsample_add,
}
