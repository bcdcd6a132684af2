"""Rewrite of a rotary position code over three axes and the layer norm after it to one op.

Tokens x (B, D, H, W, C) of six parts turn in pairs, (u, v) -> (u cos - v sin, v cos + u sin), the
first two parts with the depth, the next with the height and the last with the width. The tracer
writes two tables as large as the volume,

    LN(x * cos + swapped(x) * sin)      is one RotaryNorm

with a table of D + H + W rows in place of either. Exact: only the order of sums changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import (
    add_initializer,
    behind_reshape,
    constant_array,
    is_op,
    maker_of,
    shape_of,
    take_place,
)
from segmaformer.export.rewrites.upsampling import VOLUME_RANK
from segmaformer.export.scan_op import DOMAIN

_PARTS = 6
_SWAPPED = [1, 0, 3, 2, 5, 4]


def rotate_natively(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, norm: ir.Node) -> bool:
    if not is_op(norm, "LayerNormalization") or norm.attributes.get_int("axis", -1) != -1:
        return False
    total = maker_of("Add", behind_reshape(norm.inputs[0]))
    if total is None or len(norm.inputs) < 3:
        return False
    terms = [maker_of("Mul", term) for term in total.inputs]
    for kept, turned in (terms, terms[::-1]):
        x, cos = _factors(kept)
        partner, sin = _factors(turned)
        if x is None or cos is None or sin is None or _swapped(partner) is not x:
            continue
        tables = [_rows(table, shape_of(x)) for table in (cos, sin)]
        if all(table is not None for table in tables):
            _build(graph, norm, x, [table for table in tables if table is not None])
            return True
    return False


def _factors(product: ir.Node | None) -> tuple[ir.Value | None, np.ndarray | None]:
    """Return the value that a node multiplies by a table, and the table."""
    for value, table in () if product is None else (product.inputs, product.inputs[::-1]):
        array = _table(table)
        if array is not None:
            return value, array
    return None, None


def _table(value: ir.Value | None) -> np.ndarray | None:
    """Compute a constant that may be made of others by Concat and Expand."""
    array = constant_array(value)
    maker = value.producer() if value is not None and array is None else None
    if maker is None or not (is_op(maker, "Concat") or is_op(maker, "Expand")):
        return array
    parts = [_table(part) for part in maker.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if maker.op_type == "Concat":
        return np.concatenate(known, axis=maker.attributes["axis"].as_int())
    source, target = known
    return np.broadcast_to(source, np.broadcast_shapes(source.shape, tuple(target)))


def _swapped(value: ir.Value | None) -> ir.Value | None:
    """Return the value whose six parts of channels make `value` with each pair swapped."""
    concat = maker_of("Concat", value)
    split = None if concat is None else concat.inputs[0].producer() if concat.inputs[0] else None
    if concat is None or split is None or not is_op(split, "Split"):
        return None
    last = VOLUME_RANK - 1
    axes = concat.attributes["axis"].as_int(), split.attributes.get_int("axis", 0)
    parts = list(split.outputs)[:_PARTS]
    widths = [(shape_of(part) or (0,))[-1] for part in parts]
    source = split.inputs[0]
    channels = (shape_of(source) or (None,))[-1]
    if any(axis not in (-1, last) for axis in axes) or len(concat.inputs) != _PARTS:
        return None
    if len(set(widths)) != 1 or channels is None or channels != _PARTS * (widths[0] or 0):
        return None
    swaps = [parts[i] for i in _SWAPPED]
    return source if all(a is b for a, b in zip(concat.inputs, swaps, strict=True)) else None


def _rows(table: np.ndarray, shape: Sequence[int | None] | None) -> np.ndarray | None:
    """Return a table (D, H, W, C) as its D + H + W rows of C / 3, if each third has one axis."""
    if shape is None or len(shape) != VOLUME_RANK:
        return None
    if table.ndim == VOLUME_RANK and len(table) == 1:
        table = table[0]
    if table.shape != tuple(shape[1:]) or table.dtype != np.float32:
        return None
    rows = []
    for axis, third in enumerate(np.split(table, 3, axis=-1)):
        line = third[tuple(slice(None) if i == axis else slice(1) for i in range(3))]
        if not np.array_equal(np.broadcast_to(line, third.shape), third):
            return None
        rows.append(line.reshape(table.shape[axis], -1))
    return np.concatenate(rows)


def _build(graph: ir.Graph, norm: ir.Node, x: ir.Value, tables: Sequence[np.ndarray]) -> None:
    output = norm.outputs[0]
    named = zip(("cos", "sin"), tables, strict=True)
    rows = [add_initializer(graph, f"{output.name}_{name}", table) for name, table in named]
    inputs = [x, *rows, *norm.inputs[1:3]]
    epsilon = {"epsilon": norm.attributes.get_float("epsilon", 1e-5)}
    name = f"{output.name}_rotary"
    op = ir.node(token_ops.ROTARY_NORM, inputs, epsilon, domain=DOMAIN, name=name)
    if shape_of(output) == shape_of(x):
        return take_place(graph, norm, op)
    result = op.outputs[0]
    result.name, result.type, result.shape = name, x.type, x.shape
    graph.insert_before(norm, op)
    extents = np.array([-1, *(shape_of(output) or ())[1:]], np.int64)
    target = add_initializer(graph, f"{name}_flat", extents)
    take_place(graph, norm, ir.node("Reshape", [result, target], name=f"{name}_reshaped"))
