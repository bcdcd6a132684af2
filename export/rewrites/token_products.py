"""Rewrite of products of tokens with constant matrices to the CPU's kernels.

A block of tokens stays in the cache from what comes before a product to what is added to it:

    LN(x) W + b                            is one NormLinear
    x W + b + rest                         is one LinearAdd
    GELU(IN(x)) W + b + rest               is one InstanceNormGeluLinearAdd
    ReLU(IN(x)) W + b                      is one InstanceNormReluLinear
    x W + b + up(first) + up(second) + up(third)    is one LinearUpsampleAdd

Weights too large for a core's second cache are left to the runtime, which cuts them: on one AVX2
core the kernel took 0.86 to 1.0 of ONNX Runtime's time for up to 150,000 values, 1.03 to 1.13 for
590,000 and more.

LN is a layer norm, IN an instance norm, `up` linear upsampling by whole factors. A layer norm that
several products read is computed again in each, which costs less than writing its result and
reading it back. Exact: only the order of sums changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import (
    add_initializer,
    constant_array,
    is_op,
    only_reader,
    only_use,
    shape_of,
    take_place,
)
from segmaformer.export.rewrites.upsampling import VOLUME_RANK
from segmaformer.export.scan_op import DOMAIN

_LARGEST_WEIGHT = 1 << 18
"""Values of a weight that still stays in the second cache."""


def multiply_tokens_natively(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


@dataclass(frozen=True)
class _Product:
    """``x W + b``: the value x, W, b (None for zeros), and the nodes that make it."""

    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    nodes: tuple[ir.Node, ...]

    @property
    def result(self) -> ir.Value:
        return self.nodes[-1].outputs[0]


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    product = _match(node)
    return product is not None and (
        _after_layer_norm(graph, product)
        or _between_norm_and_sum(graph, product)
        or _after_relu(graph, product)
        or _under_upsampling(graph, product)
        or _before_sum(graph, product)
    )


def _match(node: ir.Node) -> _Product | None:
    if not _is_product(node):
        return None
    x, weight, result = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None
    assert weight is not None
    addition = only_reader(result)
    if addition is not None and is_op(addition, "Add"):
        bias = _other(addition, result)
        constant = constant_array(bias)
        if constant is not None and constant.shape == _array(weight).shape[1:]:
            return _Product(x, weight, bias, (node, addition))
    return _Product(x, weight, None, (node,))


def _is_product(node: ir.Node) -> bool:
    if not is_op(node, "MatMul") or constant_array(node.inputs[0]) is not None:
        return False
    matrix = constant_array(node.inputs[1])
    if matrix is None or matrix.ndim != 2 or matrix.dtype != np.float32:
        return False
    return matrix.size <= _LARGEST_WEIGHT


# ---- what becomes one op


def _after_layer_norm(graph: ir.Graph, product: _Product) -> bool:
    norm = product.x.producer()
    if norm is None or not _is_norm_of_products(norm):
        return False
    inputs = [norm.inputs[0], *_weights(graph, product), norm.inputs[1], _shift(graph, norm)]
    epsilon = {"epsilon": norm.attributes.get_float("epsilon", 1e-5)}
    return _finish(graph, token_ops.NORM_LINEAR, inputs, epsilon, product.nodes)


def _before_sum(graph: ir.Graph, product: _Product) -> bool:
    total = _sum(product.result)
    if total is None:
        return False
    inputs = [product.x, *_weights(graph, product), _other(total, product.result)]
    return _finish(graph, token_ops.LINEAR_ADD, inputs, {}, (*product.nodes, total))


def _between_norm_and_sum(graph: ir.Graph, product: _Product) -> bool:
    normed = _behind_reshape(product.x)
    norm, total = _maker(normed, token_ops.INSTANCE_NORM_GELU), _sum(product.result)
    volume = _volume(normed)
    if norm is None or total is None or volume is None:
        return False
    channels = _array(product.weight).shape[1]
    rest = _in_volume(graph, _other(total, product.result), (*volume, channels), total)
    inputs = [norm.inputs[0], *_weights(graph, product), *norm.inputs[1:], rest]
    nodes = (*product.nodes, total)
    return _finish(graph, token_ops.GELU_LINEAR_ADD, inputs, _epsilon(norm), nodes, volume)


def _after_relu(graph: ir.Graph, product: _Product) -> bool:
    norm = _maker(product.x, token_ops.INSTANCE_NORM_RELU)
    if norm is None:
        return False
    inputs = [norm.inputs[0], *_weights(graph, product), *norm.inputs[1:]]
    return _finish(graph, token_ops.RELU_LINEAR, inputs, _epsilon(norm), product.nodes)


def _under_upsampling(graph: ir.Graph, product: _Product) -> bool:
    value, coarse, scales = product.result, list[ir.Value | None](), dict[str, Sequence[float]]()
    nodes = list(product.nodes)
    for name in token_ops.COARSE:
        reader = only_reader(value)
        if reader is not None and is_op(reader, "Reshape") and not coarse:
            nodes.append(reader)
            reader = only_reader(reader.outputs[0])
        if reader is None or reader.op_type != token_ops.UPSAMPLE_ADD:
            return False
        if reader.inputs[1] is not nodes[-1].outputs[0]:
            return False
        coarse.append(reader.inputs[0])
        scales[f"{name}_scales"] = reader.attributes["scales"].as_floats()
        nodes.append(reader)
        value = reader.outputs[0]
    volume = _volume(value)
    if volume is None:
        return False
    channels = _array(product.weight).shape[0]
    x = _in_volume(graph, product.x, (*volume, channels), nodes[-1])
    inputs = [x, *_weights(graph, product), *coarse]
    return _finish(graph, token_ops.LINEAR_UPSAMPLE_ADD, inputs, scales, nodes)


# ---- questions


def _is_norm_of_products(norm: ir.Node) -> bool:
    """Tell if a node is a layer norm over the last axis that constant products alone read."""
    if not is_op(norm, "LayerNormalization") or norm.attributes.get_int("axis", -1) != -1:
        return False
    normed = norm.outputs[0]
    readers = [use.node for use in normed.uses()]
    return not normed.is_graph_output() and all(
        _is_product(reader) and reader.inputs[0] is normed for reader in readers
    )


def _sum(value: ir.Value) -> ir.Node | None:
    """Return the addition of an equally large value that alone reads `value`."""
    total = only_reader(value)
    if total is None or not is_op(total, "Add") or shape_of(value) is None:
        return None
    return total if shape_of(_other(total, value)) == shape_of(value) else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Return what a node of two inputs reads beside `value`."""
    return next((each for each in node.inputs if each is not value), None)


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Find the op of this project that makes `value`, if `value` is read once."""
    node = value.producer() if value is not None and only_use(value) else None
    native = node is not None and (node.domain, node.op_type) == (DOMAIN, op_type)
    return node if native else None


def _behind_reshape(value: ir.Value) -> ir.Value | None:
    maker = value.producer()
    is_flat = maker is not None and is_op(maker, "Reshape") and only_use(value)
    return maker.inputs[0] if maker is not None and is_flat else value


def _volume(value: ir.Value | None) -> tuple[int, int, int] | None:
    """Return depth, height and width of (B, D, H, W, C)."""
    shape = shape_of(value)
    if shape is None or len(shape) != VOLUME_RANK:
        return None
    depth, height, width = shape[1:4]
    known = depth is not None and height is not None and width is not None
    return (depth, height, width) if known else None  # type: ignore[return-value]


def _epsilon(norm: ir.Node) -> dict[str, float]:
    return {"epsilon": norm.attributes.get_float("epsilon", 1e-5)}


# ---- building


def _weights(graph: ir.Graph, product: _Product) -> tuple[ir.Value, ir.Value]:
    if product.bias is not None:
        return product.weight, product.bias
    zeros = np.zeros(_array(product.weight).shape[1], np.float32)
    return product.weight, add_initializer(graph, f"{product.result.name}_no_bias", zeros)


def _shift(graph: ir.Graph, norm: ir.Node) -> ir.Value:
    given = norm.inputs[2] if len(norm.inputs) > 2 else None
    if given is not None:
        return given
    zeros = np.zeros_like(_array(norm.inputs[1]))
    return add_initializer(graph, f"{norm.outputs[0].name}_no_shift", zeros)


def _array(value: ir.Value | None) -> np.ndarray:
    array = constant_array(value)
    assert array is not None
    return array


def _in_volume(
    graph: ir.Graph, value: ir.Value | None, extents: Sequence[int], before: ir.Node
) -> ir.Value:
    """Return tokens as (B, *extents), reshaped before a node unless they are."""
    assert value is not None
    if len(shape_of(value) or ()) == VOLUME_RANK:
        return value
    name = f"{value.name}_volume"
    target = add_initializer(graph, f"{name}_shape", np.array([-1, *extents], np.int64))
    node = ir.node("Reshape", [value, target], name=name)
    node.outputs[0].name, node.outputs[0].type = name, value.type
    graph.insert_before(before, node)
    return node.outputs[0]


def _finish(
    graph: ir.Graph,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, float | Sequence[float]],
    nodes: Sequence[ir.Node],
    volume: Sequence[int] | None = None,
) -> bool:
    """Let one op take the place of `nodes`; it makes the `volume` of a result (B, L, K)."""
    *others, last = nodes
    output = last.outputs[0]
    op = ir.node(op_type, inputs, attributes, domain=DOMAIN, name=f"{output.name}_{op_type}")
    shape = output.shape
    if volume is None or (shape is not None and len(shape) == VOLUME_RANK):
        take_place(graph, last, op)
    else:
        assert shape is not None
        result = op.outputs[0]
        result.name, result.type = op.name, output.type
        result.shape = ir.Shape([shape[0], *volume, shape[-1]])
        graph.insert_before(last, op)
        flat = np.array([-1, *(shape_of(output) or ())[1:]], np.int64)
        target = add_initializer(graph, f"{op.name}_flat", flat)
        take_place(graph, last, ir.node("Reshape", [result, target], name=f"{op.name}_reshaped"))
    for node in reversed(others):
        graph.remove(node, safe=True)
    return True
