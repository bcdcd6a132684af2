"""Rewrite of a layer norm between two constant products to the width of its input.

If few channels K are projected to many N, normalised and mixed again, y = LN(x P + b) W, the mean
over N is linear in x and the variance a quadratic form of it. With M the (K + 1, N) matrix of P
above b, each row less its mean, and x~ = (x, 1),

    LN(x P + b) = x~ M / s * g + d          s^2 = |x~ M|^2 / N + epsilon
    y = (x~ / s) (M diag(g) W) + d W        |x~ M| = |x~ R'|  for  M' = Q R

R has K + 1 columns, so the N channels in between are never made: in SegMaFormer's BraTS
configuration 32,768 tokens of 37 x 256 products instead of 36 x 256 and 256 x 256. Weights are
multiplied in float64; a sum of squares loses no digits, and the mean is subtracted beforehand.
x~ / s is one op, FoldedNorm, with R' over the root of N as its weight and bias.
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
    shape_of,
)
from segmaformer.export.scan_op import DOMAIN
from segmaformer.export.token_ops import FOLDED_NORM


def fold_norms(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches and saves products, in place; return how often."""
    return sum(_fold(graph, node) for node in list(graph))


@dataclass(frozen=True)
class _Chain:
    """Parts of ``LN(x P + b) W``."""

    x: ir.Value
    projection: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    epsilon: float
    mixing: np.ndarray


def _fold(graph: ir.Graph, product: ir.Node) -> bool:
    chain = _match(product)
    if chain is None or len(chain.projection) + 1 >= chain.projection.shape[1]:
        return False
    output = product.outputs[0]
    make = _Maker(graph, product, str(output.name))
    stacked = np.vstack([chain.projection, chain.bias]).astype(np.float64)
    centred = stacked - stacked.mean(axis=1, keepdims=True)
    triangle = np.linalg.qr(centred.T).R.T / np.sqrt(centred.shape[1])
    matrix = centred * chain.scale @ chain.mixing.astype(np.float64)
    constant = chain.shift.astype(np.float64) @ chain.mixing

    factors = make.constant("triangle", triangle[:-1]), make.constant("triangle_one", triangle[-1])
    epsilon = {"epsilon": chain.epsilon}
    normed = make(FOLDED_NORM, [chain.x, *factors], "normed", epsilon, domain=DOMAIN)
    mixed = make("MatMul", [normed, make.constant("matrix", matrix)], "mixed")
    shifted = make("Add", [mixed, make.constant("constant", constant)], "shifted")
    result = _reshaped_like(make, shifted, output)
    result.shape = output.shape
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    graph.remove(product, safe=True)
    return True


def _match(product: ir.Node) -> _Chain | None:
    mixed = _product(product)
    normed = None if mixed is None else _norm(behind_reshape(mixed[0]))
    projected = None if normed is None else _projection(normed[0])
    if mixed is None or normed is None or projected is None:
        return None
    x, projection, bias = projected
    _, scale, shift, epsilon = normed
    return _Chain(x, projection, bias, scale, shift, epsilon, mixed[1])


def _product(node: ir.Node | None) -> tuple[ir.Value, np.ndarray] | None:
    """Return the value that a node multiplies by a constant matrix, and the matrix."""
    if node is None or not is_op(node, "MatMul"):
        return None
    value, matrix = node.inputs[0], constant_array(node.inputs[1])
    return None if value is None or matrix is None or matrix.ndim != 2 else (value, matrix)


def _norm(
    value: ir.Value | None,
) -> tuple[ir.Value | None, np.ndarray, np.ndarray, float] | None:
    """Return input, scale, shift and epsilon of the layer norm that makes `value`."""
    norm = maker_of("LayerNormalization", value)
    if norm is None or len(norm.inputs) < 3 or norm.attributes.get_int("axis", -1) != -1:
        return None
    scale, shift = constant_array(norm.inputs[1]), constant_array(norm.inputs[2])
    if scale is None or shift is None:
        return None
    return norm.inputs[0], scale, shift, norm.attributes.get_float("epsilon", 1e-5)


def _projection(value: ir.Value | None) -> tuple[ir.Value, np.ndarray, np.ndarray] | None:
    """Return x, P and b of the sum ``x P + b`` that makes `value`."""
    addition = maker_of("Add", value)
    if addition is None:
        return None
    constants = [constant_array(term) for term in addition.inputs]
    bias = next((each for each in constants if each is not None and each.ndim == 1), None)
    makers = [maker_of("MatMul", term) for term in addition.inputs]
    product = _product(next((maker for maker in makers if maker is not None), None))
    return None if bias is None or product is None else (*product, bias)


def _reshaped_like(make: _Maker, value: ir.Value, output: ir.Value) -> ir.Value:
    """Reshape `value` (B, L, N) like `output`, which differs in its inner axes alone."""
    shape = shape_of(output)
    if shape is None or len(shape) == 3:
        return value
    extents = np.array([-1, *shape[1:]], np.int64)
    target = add_initializer(make.graph, f"{output.name}_extents", extents)
    return make("Reshape", [value, target], "reshaped")


class _Maker:
    """Adder of float32 nodes before a node, with a common prefix of names."""

    def __init__(self, graph: ir.Graph, before: ir.Node, name: str):
        self.graph = graph
        self._before = before
        self._name = name

    def __call__(
        self,
        op_type: str,
        inputs: list[ir.Value],
        name: str,
        attributes: dict[str, float] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, domain=domain, name=f"{self._name}_{name}")
        output = node.outputs[0]
        output.name, output.type = node.name, ir.TensorType(ir.DataType.FLOAT)
        self.graph.insert_before(self._before, node)
        return output

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        return add_initializer(self.graph, f"{self._name}_{name}", array.astype(np.float32))
