"""Networks in the form in which TensorRT's ONNX parser finds the plugin, TensorRT 10.3 to 11.

* Ops with kernels for the CPU alone become standard operators.
* The body of the scan is removed: the parser prefers it to the plugin before 10.7, and the plugin
  to it from then on.
* ``plugin_namespace`` and ``plugin_version`` name the plugin: the parser ignores the node's domain
  before 10.10.
* Absent optional inputs are removed, and ``has_D``, ``has_z`` and ``has_delta_bias`` tell which are
  present: the parser would pass null tensors to a network that has none.
"""

from __future__ import annotations

import onnx
from onnx import helper

from segmaformer.export.function_body import strip_function_body
from segmaformer.export.scan_op import DOMAIN, INPUTS, OPTIONAL_INPUTS, VERSION, scan_nodes
from segmaformer.export.token_ops import inline_token_functions


def plugin_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy `model` in the form for the TensorRT plugin."""
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
