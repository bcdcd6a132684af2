"""Names, inputs and nodes of the ``SelectiveScan`` op in ONNX; needs no PyTorch."""

from __future__ import annotations

import onnx
from onnx import helper

DOMAIN = "segmaformer"
VERSION = 1
OPSET = 18
"""Version of the standard operators in every file and function body."""
OP_TYPE = "SelectiveScan"
INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
FLOAT32_INPUTS = ("A", "D", "delta_bias")
OPTIONAL_INPUTS = ("D", "z", "delta_bias")


def scan_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """List the SelectiveScan nodes of a model's main graph."""
    return [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, OP_TYPE)]


def shape_of_scan() -> onnx.FunctionProto:
    """Return a body for the inference of shapes, which cannot see through a loop: y is as u."""
    return helper.make_function(
        DOMAIN,
        OP_TYPE,
        list(INPUTS),
        ["y"],
        [helper.make_node("Identity", ["u"], ["y"])],
        [helper.make_opsetid("", OPSET)],
        attributes=["delta_softplus", "reverse"],
    )
