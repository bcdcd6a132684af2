"""Cutting of constants when the file is written instead of whenever it is opened.

The tracer folds constants only up to a size, so the halves of a large projection stay slices of
the whole: stored twice if one half was folded after all, and hidden from rewrites that look for a
constant.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from segmaformer.export.rewrites.matching import add_initializer, constant_array, is_op


def cut_constants(graph: ir.Graph) -> int:
    """Apply the rewrite to every Slice of constants, in place; return how often."""
    return sum(_cut(graph, node) for node in list(graph))


def _cut(graph: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "Slice") or node.outputs[0].is_graph_output():
        return False
    given = [constant_array(value) for value in node.inputs if value is not None]
    if len(given) < len(node.inputs) or any(array is None for array in given):
        return False
    data, starts, ends, *rest = [array for array in given if array is not None]
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), np.int64)
    if (steps < 1).any():
        return False
    window = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        window[axis] = slice(int(start), int(end), int(step))
    output = node.outputs[0]
    cut = add_initializer(graph, f"{output.name}_cut", data[tuple(window)])
    ir.convenience.replace_all_uses_with(output, cut)
    graph.remove(node, safe=True)
    return True
