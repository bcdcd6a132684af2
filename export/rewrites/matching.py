"""What every rewrite asks of a graph, and how it adds a constant."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """The value of an initializer or Constant node, or None if it is computed."""
    constant = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if constant is None else constant.numpy()


def only_use(value: ir.Value) -> bool:
    """Whether exactly one node reads `value` and it is no output of the graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def shape_of(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Static extents of `value`, None for free ones; None if its rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(extent if isinstance(extent, int) else None for extent in value.shape)


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Register `array` as an initializer called `name`."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name,
        const_value=tensor,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
    )
    graph.register_initializer(value)
    return value
