"""Merging of consecutive products with constants.

For constant matrices A, B and vectors b, g,

    (x A) B = x (A B)        g * (x A + b) = x (A g) + (b * g)

with A g the columns of A scaled, and

    (g * x + d) A + b = x (g A) + (d A + b)

with g A its rows scaled. Weights are multiplied in float64. Two matrices are merged only if that
takes fewer products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from segmaformer.export.rewrites.matching import (
    add_initializer,
    behind_reshape,
    constant_array,
    is_op,
    maker_of,
    only_reader,
    only_use,
    shape_of,
)


def fold_products(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches, in place; return how often."""
    return sum(
        _merge_matrices(graph, node) or _merge_scale(graph, node) or _merge_before(graph, node)
        for node in list(graph)
    )


def _merge_matrices(graph: ir.Graph, node: ir.Node) -> bool:
    inner = _constant_product(node.inputs[0]) if _is_product(node) else None
    if inner is None:
        return False
    first, second = constant_array(inner.inputs[1]), constant_array(node.inputs[1])
    if first is None or second is None:
        return False
    (rows, middle), columns = first.shape, second.shape[1]
    if rows * columns > rows * middle + middle * columns:
        return False
    merged = first.astype(np.float64) @ second
    name = f"{node.outputs[0].name}_merged"
    node.replace_input_with(0, inner.inputs[0])
    node.replace_input_with(1, add_initializer(graph, name, merged.astype(np.float32)))
    graph.remove(inner, safe=True)
    return True


def _merge_scale(graph: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "Mul"):
        return False
    return any(
        _merge_factor(graph, node, value, constant_array(factor))
        for value, factor in (tuple(node.inputs), tuple(reversed(node.inputs)))
    )


def _merge_factor(
    graph: ir.Graph, node: ir.Node, value: ir.Value | None, scale: np.ndarray | None
) -> bool:
    """Scale the columns of the matrix that `value` is made with, and drop `node`."""
    if scale is None or scale.ndim != 1:
        return False
    addition = value.producer() if value is not None and only_use(value) else None
    bias = None
    if addition is not None and is_op(addition, "Add"):
        value, bias = _product_and_bias(addition)
    product = _constant_product(value)
    matrix = None if product is None else constant_array(product.inputs[1])
    if product is None or matrix is None or matrix.shape[1] != len(scale):
        return False
    _scale_input(graph, product, 1, matrix, scale)
    last = product
    if addition is not None and bias is not None:
        index = list(addition.inputs).index(bias)
        _scale_input(graph, addition, index, constant_array(bias), scale)
        last = addition
    _drop(graph, node, last)
    return True


def _merge_before(graph: ir.Graph, node: ir.Node) -> bool:
    """Take a scale and a shift of the channels of x into the product and its bias."""
    addition = only_reader(node.outputs[0]) if _is_product(node) else None
    if addition is None or not is_op(addition, "Add"):
        return False
    _, bias = _product_and_bias(addition)
    shift = _constant_step(behind_reshape(node.inputs[0]), "Add")
    scale = None if shift is None else _constant_step(shift.value, "Mul")
    matrix, offset = constant_array(node.inputs[1]), constant_array(bias)
    if shift is None or scale is None or bias is None or matrix is None or offset is None:
        return False
    wide = matrix.astype(np.float64)
    name = addition.outputs[0].name
    scaled = (wide * scale.constant[:, None]).astype(np.float32)
    shifted = (offset + shift.constant @ wide).astype(np.float32)
    ir.convenience.replace_all_uses_with(shift.node.outputs[0], scale.value)
    node.replace_input_with(1, add_initializer(graph, f"{name}_scaled_rows", scaled))
    index = list(addition.inputs).index(bias)
    addition.replace_input_with(index, add_initializer(graph, f"{name}_shifted", shifted))
    graph.remove([scale.node, shift.node][::-1], safe=True)
    return True


@dataclass(frozen=True)
class _Step:
    """A node that adds a constant of each channel to a value, or multiplies it."""

    node: ir.Node
    value: ir.Value
    constant: np.ndarray


def _constant_step(result: ir.Value | None, op_type: str) -> _Step | None:
    """Find the step of that type which makes `result`, if `result` is read once."""
    node = maker_of(op_type, result)
    if node is None:
        return None
    for value, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        constant = constant_array(other)
        if value is None or constant is None:
            continue
        if constant.shape == (shape_of(value) or ())[-1:]:
            return _Step(node, value, constant.astype(np.float64))
    return None


def _drop(graph: ir.Graph, node: ir.Node, before: ir.Node) -> None:
    """Let `before` produce the result of `node`, under that name, since its own changed meaning."""
    output, result = node.outputs[0], before.outputs[0]
    name = output.name
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = name


def _scale_input(
    graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray | None, scale: np.ndarray
) -> None:
    assert array is not None
    scaled = (array.astype(np.float64) * scale).astype(np.float32)
    output = node.outputs[0]
    output.name = f"{output.name}_scaled"
    node.replace_input_with(index, add_initializer(graph, f"{output.name}_by", scaled))


def _product_and_bias(addition: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Return the input to which a node adds a constant vector, and that vector."""
    for value, bias in (tuple(addition.inputs), tuple(reversed(addition.inputs))):
        constant = constant_array(bias)
        if constant is not None and constant.ndim == 1:
            return value, bias
    return None, None


def _constant_product(value: ir.Value | None) -> ir.Node | None:
    """Find the product with a constant matrix that makes `value`, if `value` is read once."""
    node = value.producer() if value is not None and only_use(value) else None
    return node if node is not None and _is_product(node) else None


def _is_product(node: ir.Node) -> bool:
    if not is_op(node, "MatMul"):
        return False
    matrix = constant_array(node.inputs[1])
    return matrix is not None and matrix.ndim == 2 and constant_array(node.inputs[0]) is None
