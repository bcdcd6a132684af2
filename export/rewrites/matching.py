"""Questions that every rewrite asks of a graph, and the adding of constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """Return the value of an initializer or Constant node, or None if it is computed."""
    constant = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if constant is None else constant.numpy()


def only_use(value: ir.Value) -> bool:
    """Tell if exactly one node reads `value` and it is no output of the graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def shape_of(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Return the static extents of `value`, None for free ones; None if its rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(extent if isinstance(extent, int) else None for extent in value.shape)


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Register `array` as an initializer called `name`."""
    # Contiguous arrays have at least one axis; a scalar has none.
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(
        name=name,
        const_value=tensor,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
    )
    graph.register_initializer(value)
    return value


def take_place(graph: ir.Graph, node: ir.Node, replacement: ir.Node) -> None:
    """Put `replacement` where `node` was; its result takes the name, shape and type of node's."""
    output, result = node.outputs[0], replacement.outputs[0]
    result.name, result.shape, result.type = f"{output.name}_native", output.shape, output.type
    graph.insert_before(node, replacement)
    name = output.name
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = name


def is_op(node: ir.Node, op_type: str) -> bool:
    """Tell if `node` is that standard operator."""
    return node.op_type == op_type and node.domain in ("", "ai.onnx")


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the only reader of `value`, if it is read once and is no output of the graph."""
    return next(iter(value.uses())).node if only_use(value) else None


def maker_of(op_type: str, value: ir.Value | None) -> ir.Node | None:
    """Find the standard operator of that type that makes `value`, if `value` is read once."""
    node = value.producer() if value is not None and only_use(value) else None
    return node if node is not None and is_op(node, op_type) else None


def behind_reshape(value: ir.Value | None) -> ir.Value | None:
    """Return `value`, or the input of a Reshape that made it without changing the last axis."""
    reshape = maker_of("Reshape", value)
    if reshape is None:
        return value
    before, after = shape_of(reshape.inputs[0]), shape_of(value)
    same = before is not None and after is not None and before[-1] == after[-1]
    return reshape.inputs[0] if same else value


def attribute_ints(node: ir.Node, name: str) -> list[int] | None:
    """Return the integers of an attribute, or None if the node omits it."""
    attribute = node.attributes.get(name)
    return None if attribute is None else list(attribute.as_ints())


def is_plain(conv: ir.Node) -> bool:
    """Tell if a convolution has no stride, padding, dilation or groups."""
    neutral = {"strides": 1, "dilations": 1, "pads": 0}
    plain = all(set(attribute_ints(conv, name) or [n]) == {n} for name, n in neutral.items())
    return plain and conv.attributes.get_int("group", 1) == 1


def bias_or_zeros(graph: ir.Graph, conv: ir.Node, channels: int) -> ir.Value:
    """Return the bias of a convolution with `channels` outputs, or zeros if it has none."""
    given = conv.inputs[2] if len(conv.inputs) > 2 else None
    if given is not None:
        return given
    zeros = np.zeros(channels, np.float32)
    return add_initializer(graph, f"{conv.outputs[0].name}_no_bias", zeros)
