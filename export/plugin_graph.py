"""A network as TensorRT's ONNX parser hands it to the plugin; one form for TensorRT 10.3 to 11.

* The ops that only the CPU has kernels for become standard operators.
* The body of the scan goes: before 10.7 the parser prefers it to the plugin, and only from then on
  the plugin to it.
* ``plugin_namespace`` and ``plugin_version`` name the plugin: before 10.10 the parser takes no
  notice of the node's domain.
* Inputs that a node leaves out go, and ``has_D``, ``has_z`` and ``has_delta_bias`` say which are
  left: the parser would pass null tensors on to a network that knows none.
"""

from __future__ import annotations

import onnx
from onnx import helper

from segmaformer.export.function_body import strip_function_body
from segmaformer.export.scan_op import DOMAIN, INPUTS, OPTIONAL_INPUTS, VERSION, scan_nodes
from segmaformer.export.token_ops import inline_token_functions


def plugin_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of `model` whose scans are for the TensorRT plugin."""
    copy = inline_token_functions(model)
    strip_function_body(copy)
    for node in scan_nodes(copy):
        _name_plugin(node)
        _drop_absent_inputs(node)
    return copy


def _name_plugin(node: onnx.NodeProto) -> None:
    node.attribute.append(helper.make_attribute("plugin_namespace", DOMAIN))
    node.attribute.append(helper.make_attribute("plugin_version", str(VERSION)))


def _drop_absent_inputs(node: onnx.NodeProto) -> None:
    given = dict(zip(INPUTS, node.input, strict=False))
    for name in OPTIONAL_INPUTS:
        present = int(bool(given.get(name)))
        node.attribute.append(helper.make_attribute(f"has_{name}", present))
    del node.input[:]
    node.input.extend(name for name in given.values() if name)
