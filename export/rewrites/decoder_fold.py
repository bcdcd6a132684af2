"""Rewrite of a pointwise convolution of concatenated, upsampled maps to a sum at low resolution.

A 1x1x1 convolution acts on channels, interpolation on positions, so they commute.
With W cut into column blocks W_i along the concatenation,

    conv(W, cat(f_0, up(f_1), ...)) = conv(W_0, f_0) + up(conv(W_1, f_1)) + ...

The interpolation weights of a position sum to one, so this is exact up to rounding. In
SegMaFormer's BraTS configuration it reduces 8.6 of the network's 13.5 GMAC to 2.5.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from segmaformer.export.rewrites.matching import (
    add_initializer,
    constant_array,
    is_op,
    is_plain,
    only_use,
    shape_of,
)

CHANNEL_AXIS = 1


def fold_decoder(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches, in place; return how often."""
    return sum(_fold(graph, node) for node in list(graph))


def _fold(graph: ir.Graph, conv: ir.Node) -> bool:
    concat = _pointwise_source(conv)
    if concat is None:
        return False
    weight = constant_array(conv.inputs[1])
    bias = constant_array(conv.inputs[2]) if len(conv.inputs) > 2 else None
    widths = [width for value in concat.inputs if (width := _channels(value)) is not None]
    known = weight is not None and len(widths) == len(concat.inputs)
    known = known and (bias is not None or len(conv.inputs) < 3)
    if not known or weight is None or not any(map(_upsampling, concat.inputs)):
        return False
    blocks = np.split(weight, np.cumsum(widths)[:-1], axis=1)
    terms = [
        _convolved(graph, conv, value, block, f"{conv.name}_block{index}")
        for index, (value, block) in enumerate(zip(concat.inputs, blocks, strict=True))
    ]
    total = terms[0]
    for index, term in enumerate(terms[1:], start=1):
        total = _insert(graph, conv, "Add", [total, term], f"{conv.name}_sum{index}")
    if bias is not None:
        column = add_initializer(graph, f"{conv.name}_bias", bias.reshape(-1, 1, 1, 1))
        total = _insert(graph, conv, "Add", [total, column], f"{conv.name}_biased")
    result = conv.outputs[0]
    ir.convenience.replace_all_uses_with(result, total, replace_graph_outputs=True)
    graph.remove(conv, safe=True)
    total.name, total.shape, total.type = result.name, result.shape, result.type
    return True


def _pointwise_source(conv: ir.Node) -> ir.Node | None:
    """Find the Concat that feeds `conv`, if it is a 1x1x1 convolution and its only reader."""
    weight = shape_of(conv.inputs[1]) if is_op(conv, "Conv") else None
    if weight is None or set(weight[2:]) != {1} or not is_plain(conv):
        return None
    source = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    if source is None or not is_op(source, "Concat") or not only_use(source.outputs[0]):
        return None
    return source if source.attributes["axis"].as_int() == CHANNEL_AXIS else None


def _channels(value: ir.Value | None) -> int | None:
    resize = _upsampling(value)
    shape = shape_of(value if resize is None else resize.inputs[0])
    return shape[CHANNEL_AXIS] if shape is not None else None


def _upsampling(value: ir.Value | None) -> ir.Node | None:
    """Find the linear Resize that makes `value`, if nothing else reads it."""
    node = value.producer() if value is not None else None
    if node is None or not is_op(node, "Resize") or not only_use(node.outputs[0]):
        return None
    return node if node.attributes.get_string("mode", "nearest") == "linear" else None


def _convolved(
    graph: ir.Graph, conv: ir.Node, value: ir.Value | None, block: np.ndarray, name: str
) -> ir.Value:
    """Return ``up(conv(block, f))`` if `value` is ``up(f)``, else ``conv(block, value)``."""
    resize = _upsampling(value)
    weight = add_initializer(graph, f"{name}_weight", block)
    if resize is None:
        return _insert(graph, conv, "Conv", [value, weight], name)
    low = _insert(graph, resize, "Conv", [resize.inputs[0], weight], name)
    _follow_channels(resize, low)
    resize.replace_input_with(0, low)
    output = resize.outputs[0]
    if output.shape is not None:
        dims = list(output.shape)
        dims[CHANNEL_AXIS] = block.shape[0]
        output.shape = ir.Shape(dims)
    return output


def _follow_channels(resize: ir.Node, low: ir.Value) -> None:
    """Compute a size from the new input's shape if it was computed from the old one's."""
    sizes = resize.inputs[3] if len(resize.inputs) > 3 else None
    concat = sizes.producer() if sizes is not None else None
    graph = resize.graph
    if concat is None or graph is None:
        return
    for value in concat.inputs:
        shape_node = value.producer() if value is not None else None
        if shape_node is not None and shape_node.op_type == "Shape":
            shape_node.replace_input_with(0, low)
            # The shape now depends on the convolution, which stands before the Resize.
            graph.remove((shape_node, concat))
            graph.insert_before(resize, (shape_node, concat))


def _insert(
    graph: ir.Graph, before: ir.Node, op_type: str, inputs: list[ir.Value | None], name: str
) -> ir.Value:
    node = ir.Node("", op_type, inputs, name=name)
    node.outputs[0].name = name
    source = inputs[0]
    if source is not None:
        node.outputs[0].type = source.type
    graph.insert_before(before, node)
    return node.outputs[0]
