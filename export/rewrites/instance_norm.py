"""Instance norms become the op that sums them accurately, with the ReLU that follows.

ONNX Runtime and OpenVINO add a channel up in one float32 run. On a tile with a flat background,
which every scan has, the norm of 128^3 voxels is then wrong by 5e-3. The op's kernel and its body
in standard operators add up in short runs.

Norms over one or two axes, and those over groups of channels, which the tracer writes as norms
over one long axis, get three axes by a reshape: the body adds along one after the other.
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
    """Apply the rewrite to every instance norm, in place; returns how many there were."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "InstanceNormalization"):
        return False
    source, normed = node.inputs[0], node.outputs[0]
    shape = shape_of(source)
    if source is None or shape is None or len(shape) < 3 or None in shape[1:]:
        raise ValueError(
            f"the instance norm {node.name} takes {shape or 'an unknown shape'}; all but its "
            "batch must follow from the tile"
        )
    extents = [extent or 1 for extent in shape[2:]]
    activation, alpha = _slope_after(normed)
    output = normed if activation is None else activation.outputs[0]
    volume = source
    if len(extents) != SPATIAL_AXES:
        volume = _reshaped(graph, node, source, [shape[1] or 1, *in_three_axes(extents)])
    attributes = {"epsilon": node.attributes.get_float("epsilon", 1e-5), "alpha": alpha}
    result = _added(
        graph, node, token_ops.INSTANCE_NORM, [volume, *node.inputs[1:]], attributes, DOMAIN
    )
    result.name, result.shape = f"{output.name}_volume", volume.shape
    if volume is not source:
        result = _reshaped(graph, node, result, [*shape[1:]])
    name, is_result = output.name, output.is_graph_output()
    result.shape = output.shape
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    if activation is not None:
        graph.remove(activation, safe=True)
    graph.remove(node, safe=True)
    if is_result or volume is source:
        result.name = name
    return True


def _slope_after(normed: ir.Value) -> tuple[ir.Node | None, float]:
    """The node that multiplies negative values of `normed`, if the op can, and by what."""
    reader = only_reader(normed)
    if reader is not None and is_op(reader, "Relu"):
        return reader, 0.0
    if reader is not None and is_op(reader, "LeakyRelu"):
        alpha = reader.attributes.get_float("alpha", 0.01)
        if 0 <= alpha <= 1:
            return reader, alpha
    return None, 1.0


def in_three_axes(extents: list[int]) -> tuple[int, int, int]:
    """Extents of a volume with as many voxels, the longest as short as whole numbers allow."""
    size = math.prod(extents)
    third = _largest_divisor(size, round(size ** (1 / 3)))
    second = _largest_divisor(size // third, math.isqrt(size // third))
    return third, second, size // third // second


def _largest_divisor(size: int, most: int) -> int:
    return next(n for n in range(max(most, 1), 0, -1) if size % n == 0)


def _reshaped(graph: ir.Graph, before: ir.Node, value: ir.Value, extents: list[int]) -> ir.Value:
    """`value` with its batch and these extents."""
    batch = value.shape[0] if value.shape is not None else None
    name = f"{value.name}_as_{'x'.join(map(str, extents))}"
    target = add_initializer(graph, f"{name}_shape", np.array([-1, *extents], np.int64))
    result = _added(graph, before, "Reshape", [value, target], {})
    result.name, result.shape = name, ir.Shape([batch, *extents])
    return result


def _added(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: list[ir.Value | None],
    attributes: dict[str, float],
    domain: str = "",
) -> ir.Value:
    name = f"{before.outputs[0].name}_{op_type}"
    if op_type == "Reshape":
        name = f"{inputs[0].name if inputs[0] else ''}_{before.name}_{op_type}"
    node = ir.node(op_type, inputs, attributes, domain=domain, name=name)
    output = node.outputs[0]
    output.type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(before, node)
    return output
