"""Rewrite of instance norms to an op that sums accurately, together with a ReLU that follows.

ONNX Runtime and OpenVINO sum a channel in one float32 accumulator. On a tile with a flat
background, which every scan has, the norm of 128^3 voxels is then wrong by 5e-3. The op's kernel
and its body in standard operators sum in short runs.

Norms over one or two axes, and those over groups of channels, which the tracer writes as norms
over one long axis, get three axes by a reshape: the body sums along one after the other.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import add_initializer, is_op, only_reader, shape_of
from segmaformer.export.scan_op import DOMAIN

SPATIAL_AXES = 3


def sum_norms_accurately(graph: ir.Graph) -> int:
    """Apply the rewrite to every instance norm, in place; return their number."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "InstanceNormalization"):
        return False
    channels, *extents = _static_extents(node)
    normed = node.outputs[0]
    activation, alpha = slope_after(normed)
    output = normed if activation is None else activation.outputs[0]
    source, *parameters = node.inputs
    is_volume = len(extents) == SPATIAL_AXES
    if not is_volume:
        source = _reshape(graph, node, source, [channels, *in_three_axes(extents)])
    norm = ir.node(
        token_ops.INSTANCE_NORM,
        [source, *parameters],
        {"epsilon": node.attributes.get_float("epsilon", 1e-5), "alpha": alpha},
        domain=DOMAIN,
        name=f"{output.name}_norm",
    )
    graph.insert_before(node, norm)
    result = norm.outputs[0]
    result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), source.shape if source else None
    if not is_volume:
        result.name = f"{output.name}_volume"
        result = _reshape(graph, node, result, [channels, *extents])
    result.shape = output.shape
    name = output.name
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    for replaced in (activation, node):
        if replaced is not None:
            graph.remove(replaced, safe=True)
    result.name = name
    return True


def _static_extents(node: ir.Node) -> list[int]:
    """Return channels and spatial extents of a norm's input."""
    shape = shape_of(node.inputs[0])
    extents = [extent for extent in (shape or ())[1:] if extent is not None]
    if shape is None or len(extents) < len(shape) - 1 or len(extents) < 2:
        raise ValueError(
            f"the instance norm {node.name} takes values of shape {shape or 'unknown'}; all but "
            "the batch must follow from the tile"
        )
    return extents


def slope_after(normed: ir.Value) -> tuple[ir.Node | None, float]:
    """Find the node that multiplies negative values of `normed`, if the op can, and the factor."""
    reader = only_reader(normed)
    if reader is not None and is_op(reader, "Relu"):
        return reader, 0.0
    if reader is not None and is_op(reader, "LeakyRelu"):
        alpha = reader.attributes.get_float("alpha", 0.01)
        if 0 <= alpha <= 1:
            return reader, alpha
    return None, 1.0


def in_three_axes(extents: list[int]) -> tuple[int, int, int]:
    """Return three extents with the same product, the longest as short as possible."""
    size = math.prod(extents)
    third = _largest_divisor(size, round(size ** (1 / 3)))
    second = _largest_divisor(size // third, math.isqrt(size // third))
    return third, second, size // third // second


def _largest_divisor(size: int, most: int) -> int:
    return next(n for n in range(max(most, 1), 0, -1) if size % n == 0)


def _reshape(
    graph: ir.Graph, before: ir.Node, value: ir.Value | None, extents: list[int]
) -> ir.Value:
    """Reshape `value` to these extents behind its batch."""
    name = f"{before.outputs[0].name}_{'x'.join(map(str, extents))}"
    target = add_initializer(graph, f"{name}_shape", np.array([-1, *extents], np.int64))
    reshape = ir.node("Reshape", [value, target], name=f"{name}_reshape")
    graph.insert_before(before, reshape)
    result = reshape.outputs[0]
    batch = value.shape[0] if value is not None and value.shape is not None else None
    result.name, result.type = name, ir.TensorType(ir.DataType.FLOAT)
    result.shape = ir.Shape([batch, *extents])
    return result
