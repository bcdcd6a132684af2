"""Layers of a network whose arithmetic can be int8: products with constant weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx

_OWN_CONVOLUTION = ("segmaformer", "Conv3d")

LayerKind = Literal["conv", "pointwise", "depthwise", "grouped", "matmul"]


@dataclass(frozen=True)
class Layer:
    """Convolution or matrix product with a constant weight.

    Attributes
    ----------
    name
        Name of the node, unique in the graph.
    kind
        ``pointwise`` is a convolution over one voxel, ``depthwise`` one with each channel by
        itself, ``grouped`` any other with groups.
    activation, weight, output
        Names of tensors.
    bias
        Name of the constant bias that the node itself adds; None without one.
    axis
        Axis of the weight that counts output channels.
    channels
        Numbers of input and output channels.
    parameters
        Number of elements of the weight.
    macs
        Number of multiply-accumulates for one tile.
    is_last
        Whether no other layer lies between this one and the network's output.
    """

    name: str
    kind: LayerKind
    activation: str
    weight: str
    output: str
    bias: str | None
    axis: int
    channels: tuple[int, int]
    parameters: int
    macs: int
    is_last: bool = False

    @property
    def is_convolution(self) -> bool:
        """True for a convolution of any kind."""
        return self.kind != "matmul"


def find_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Find every convolution and matrix product of the main graph with a constant weight.

    Transposed convolutions are left out: no CPU runs them in int8, and TensorRT only does without
    explicit quantisation.

    Parameters
    ----------
    model
        Float32 network with free batch size and fixed tile.

    Returns
    -------
    tuple of Layer
        Layers in the order of computation.

    Raises
    ------
    ValueError
        Two nodes have the same name, so that layers could not be told apart.
    """
    _check_names(model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes = _shapes(model)
    last = _last_nodes(model, initializers)
    return tuple(
        _layer(node, initializers, shapes, node.name in last)
        for node in model.graph.node
        if _is_layer(node, initializers)
    )


def _check_names(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    if len(set(names)) < len(names) or "" in names:
        raise ValueError("the network has nodes without names of their own; export it again")


def is_convolution(node: onnx.NodeProto) -> bool:
    """Tell if a node is a convolution: ONNX's, or this project's op of the same inputs."""
    return (node.domain, node.op_type) in (("", "Conv"), _OWN_CONVOLUTION)


def _is_layer(node: onnx.NodeProto, initializers: dict[str, onnx.TensorProto]) -> bool:
    if not is_convolution(node) and node.op_type != "MatMul":
        return False
    if node.input[1] not in initializers:
        return False
    weight = initializers[node.input[1]]
    if weight.data_type != onnx.TensorProto.FLOAT:
        return False
    return is_convolution(node) or len(weight.dims) == 2


def _layer(
    node: onnx.NodeProto,
    initializers: dict[str, onnx.TensorProto],
    shapes: dict[str, tuple[int, ...]],
    is_last: bool,
) -> Layer:
    dims = tuple(initializers[node.input[1]].dims)
    bias = node.input[2] if len(node.input) > 2 and node.input[2] in initializers else None
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if is_convolution(node):
        axis, channels = 0, (dims[1] * groups, dims[0])
    else:
        axis, channels = 1, (dims[0], dims[1])
    places = math.prod(shapes.get(node.output[0], ())) // channels[1]
    return Layer(
        name=node.name,
        kind=_kind(node, dims, groups),
        activation=node.input[0],
        weight=node.input[1],
        output=node.output[0],
        bias=bias,
        axis=axis,
        channels=channels,
        parameters=math.prod(dims),
        macs=places * math.prod(dims),
        is_last=is_last,
    )


def _kind(node: onnx.NodeProto, dims: tuple[int, ...], groups: int) -> LayerKind:
    if not is_convolution(node):
        return "matmul"
    if groups > 1:
        return "depthwise" if dims[1] == 1 else "grouped"
    return "pointwise" if set(dims[2:]) == {1} else "conv"


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Infer the shape of each tensor for a batch of one."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
    }


def _last_nodes(model: onnx.ModelProto, initializers: dict[str, onnx.TensorProto]) -> set[str]:
    """Return the names of the layers that the walk back from the outputs meets first."""
    producers = {output: node for node in model.graph.node for output in node.output}
    return set(_walk_back([value.name for value in model.graph.output], producers, initializers))


def _walk_back(
    tensors: list[str],
    producers: dict[str, onnx.NodeProto],
    initializers: dict[str, onnx.TensorProto],
) -> Iterator[str]:
    seen: set[str] = set()
    while tensors:
        node = producers.get(tensors.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if _is_layer(node, initializers):
            yield node.name
        else:
            tensors.extend(node.input)
