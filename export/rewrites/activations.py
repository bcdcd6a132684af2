"""Recognition of activations that the tracer writes as several nodes."""

from __future__ import annotations

import math

import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import constant_array, is_op, only_reader, only_use

_ROOT_TWO = math.sqrt(2)


def silu_nodes(value: ir.Value) -> list[ir.Node] | None:
    """Find the nodes that make SiLU of `value`, if nothing else reads it."""
    readers = [use.node for use in value.uses()]
    sigmoid = next((node for node in readers if is_op(node, "Sigmoid")), None)
    product = next((node for node in readers if is_op(node, "Mul")), None)
    if sigmoid is None or product is None or len(readers) != 2 or value.is_graph_output():
        return None
    if set(product.inputs) != {value, sigmoid.outputs[0]} or not only_use(sigmoid.outputs[0]):
        return None
    return [sigmoid, product]


def norm_activation(value: ir.Value) -> tuple[str, list[ir.Node]] | None:
    """Find the op for an instance norm with the activation of `value`, and that one's nodes."""
    relu = only_reader(value)
    if relu is not None and is_op(relu, "Relu"):
        return token_ops.INSTANCE_NORM_RELU, [relu]
    gelu = gelu_nodes(value)
    return None if gelu is None else (token_ops.INSTANCE_NORM_GELU, gelu)


def gelu_nodes(value: ir.Value) -> list[ir.Node] | None:
    """Find the nodes of ``value * (half * (erf(value / root two) + 1))``, read by nothing else."""
    readers = [use.node for use in value.uses()]
    division = next((node for node in readers if _divides_by_root_two(node, value)), None)
    if division is None or len(readers) != 2 or value.is_graph_output():
        return None
    nodes = [division]
    for op_type, constant in (("Erf", None), ("Add", 1.0), ("Mul", 0.5), ("Mul", None)):
        reader = only_reader(nodes[-1].outputs[0])
        if reader is None or not is_op(reader, op_type):
            return None
        if constant is not None and _scalar(reader, nodes[-1].outputs[0]) != constant:
            return None
        nodes.append(reader)
    return nodes if value in nodes[-1].inputs else None


def _divides_by_root_two(node: ir.Node, value: ir.Value) -> bool:
    if not is_op(node, "Div") or node.inputs[0] is not value:
        return False
    root = _scalar(node, value)
    return root is not None and math.isclose(root, _ROOT_TWO, rel_tol=1e-6)


def _scalar(node: ir.Node, beside: ir.Value) -> float | None:
    """Return the scalar constant that a node of two inputs has beside `beside`."""
    others = [value for value in node.inputs if value is not beside]
    constant = constant_array(others[0]) if len(others) == 1 else None
    return float(constant.reshape(())) if constant is not None and constant.size == 1 else None
