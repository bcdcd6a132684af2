from __future__ import annotations

from typing import Any

import pytest

onnx = pytest.importorskip("onnx")

from support.graphs.scan_models import FLOAT32, NAMES, OPTIONAL, SUBSETS, make_inputs, make_model

from segmaformer.export.engines.plugin_graph import plugin_graph
from segmaformer.export.function_body import add_function_body


def attributes_of(node: Any) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize("drop_trailing", [False, True], ids=["empty names", "left out"])
@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
def test_a_node_keeps_the_inputs_it_has(optional: tuple[str, ...], drop_trailing: bool) -> None:
    inputs = make_inputs(FLOAT32, optional)
    model = make_model(inputs, drop_trailing=drop_trailing, delta_softplus=1, reverse=1)
    (node,) = plugin_graph(model).graph.node
    assert list(node.input) == [name for name in NAMES if name in inputs]
    assert attributes_of(node) == {
        "delta_softplus": 1,
        "reverse": 1,
        "plugin_namespace": b"segmaformer",
        "plugin_version": b"1",
        **{f"has_{name}": int(name in optional) for name in OPTIONAL},
    }


def test_the_body_goes_and_the_model_stays_as_it_was() -> None:
    model = make_model(make_inputs(FLOAT32, OPTIONAL), delta_softplus=1)
    add_function_body(model)
    before = model.SerializeToString()
    assert not plugin_graph(model).functions
    assert model.SerializeToString() == before


def test_other_nodes_stay_as_they_are(tiny_onnx: Any) -> None:
    def others(model: Any) -> list[bytes]:
        return [n.SerializeToString() for n in model.graph.node if n.op_type != "SelectiveScan"]

    converted = plugin_graph(tiny_onnx)
    assert others(converted) == others(tiny_onnx)
    assert len(converted.graph.node) == len(tiny_onnx.graph.node)
    onnx.checker.check_model(converted)
