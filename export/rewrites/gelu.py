"""Rewrite of GELU to the order of factors that ONNX Runtime computes at once.

The tracer writes ``x * (0.5 * (erf(x / root two) + 1))``, which ONNX Runtime runs as five
operators, each over all of memory. It knows ``(x * (erf(x / root two) + 1)) * 0.5`` as one. A
factor of a half rounds nothing, so that both are the same.
"""

from __future__ import annotations

import onnx_ir as ir

from segmaformer.export.rewrites.activations import gelu_nodes
from segmaformer.export.rewrites.matching import is_op, take_place


def halve_gelu_last(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, erf: ir.Node) -> bool:
    scaled = erf.inputs[0] if is_op(erf, "Erf") else None
    division = None if scaled is None else scaled.producer()
    x = None if division is None else division.inputs[0]
    nodes = None if x is None else gelu_nodes(x)
    if nodes is None:
        return False
    *_, plus_one, halved, product = nodes
    (half,) = (value for value in halved.inputs if value is not plus_one.outputs[0])
    sum_times_x = ir.node("Mul", [x, plus_one.outputs[0]], name=f"{product.name}_doubled")
    doubled, result = sum_times_x.outputs[0], product.outputs[0]
    doubled.name, doubled.shape, doubled.type = f"{result.name}_doubled", result.shape, result.type
    graph.insert_before(product, sum_times_x)
    take_place(graph, product, ir.node("Mul", [doubled, half], name=product.name))
    graph.remove(halved, safe=True)
    return True
