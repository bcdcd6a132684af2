"""Rewrite of an instance norm, the sum with a residual and the ReLU that follows to one op.

A residual block ends with them, on the largest arrays of a network: three passes over memory
become one.
"""

from __future__ import annotations

import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.instance_norm import slope_after
from segmaformer.export.rewrites.matching import is_op, only_reader, shape_of, take_place
from segmaformer.export.scan_op import DOMAIN


def add_residuals_to_norms(graph: ir.Graph) -> int:
    """Apply the rewrite to every norm that a sum alone reads, in place; return their number."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, norm: ir.Node) -> bool:
    if (norm.domain, norm.op_type) != (DOMAIN, token_ops.INSTANCE_NORM):
        return False
    normed = norm.outputs[0]
    total = only_reader(normed)
    residual = None if total is None else _residual(norm, total)
    if total is None or residual is None:
        return False
    activation, alpha = slope_after(total.outputs[0])
    replacement = ir.node(
        token_ops.INSTANCE_NORM_ADD,
        [*norm.inputs, residual],
        {"epsilon": norm.attributes.get_float("epsilon", 1e-5), "alpha": alpha},
        domain=DOMAIN,
        name=f"{normed.name}_residual",
    )
    if activation is None:
        take_place(graph, total, replacement)
    else:
        take_place(graph, activation, replacement)
        graph.remove(total, safe=True)
    graph.remove(norm, safe=True)
    return True


def _residual(norm: ir.Node, total: ir.Node) -> ir.Value | None:
    """Return what `total` adds to a norm without an activation, if it has the same extents."""
    if not is_op(total, "Add") or norm.attributes.get_float("alpha", 1.0) != 1:
        return None
    rest = next((value for value in total.inputs if value is not norm.outputs[0]), None)
    same = shape_of(rest) is not None and shape_of(rest) == shape_of(norm.outputs[0])
    return rest if same and shape_of(norm.inputs[0]) == shape_of(rest) else None
