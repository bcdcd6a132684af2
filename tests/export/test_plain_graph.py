from __future__ import annotations

import collections
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.graphs.graphs import logits_of
from support.networks.networks import TINY_TILE

pytest.importorskip("torch")

from segmaformer.export.float16 import to_float16
from segmaformer.export.plain_graph import check_plain, plain_graph
from segmaformer.export.rewrites import apply_rewrites
from segmaformer.export.scan_op import scan_nodes


def tiles(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 1, *TINY_TILE), dtype=np.float32)


@pytest.fixture(scope="module")
def network(tiny_onnx: Any) -> onnx.ModelProto:
    return apply_rewrites(tiny_onnx)[0]


@pytest.mark.parametrize(("batch", "given"), [(None, 1), (None, 3), (2, 2)])
def test_a_network_computes_the_same(
    network: onnx.ModelProto, batch: int | None, given: int
) -> None:
    expected = logits_of(network, tiles(given), op_library=True)
    found = logits_of(plain_graph(network, batch=batch), tiles(given), op_library=False)
    assert np.abs(found - expected).max() <= 2e-5 * np.ptp(expected)


def test_a_typed_network_computes_the_same(network: onnx.ModelProto) -> None:
    typed, _ = to_float16(network)
    expected = logits_of(typed, tiles(1), op_library=True)
    found = logits_of(plain_graph(typed), tiles(1), op_library=False)
    assert np.abs(found - expected).max() <= 5e-3 * np.ptp(expected)


def test_only_standard_operators_are_left(network: onnx.ModelProto) -> None:
    before = len(scan_nodes(network))
    plain = plain_graph(network, batch=1)
    onnx.checker.check_model(plain)
    kinds = collections.Counter(node.op_type for node in plain.graph.node)
    assert before > 0
    assert not {"SelectiveScan", "Scan", "Loop", "If"} & set(kinds)
    assert [opset.domain for opset in plain.opset_import] == [""]
    assert not plain.functions
    assert len(scan_nodes(network)) == before  # the model itself is as it was


def test_the_batch_is_fixed_where_asked_for(network: onnx.ModelProto) -> None:
    def batch(model: onnx.ModelProto) -> Any:
        return model.graph.input[0].type.tensor_type.shape.dim[0]

    assert batch(plain_graph(network, batch=3)).dim_value == 3
    assert batch(plain_graph(network)).dim_param


def model_of(*nodes: onnx.NodeProto, tile: tuple[int | str, ...] = (1, 8, 4)) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "network",
        [info("tiles", TensorProto.FLOAT, tile), info("A", TensorProto.FLOAT, [4, 4])],
        [info("logits", TensorProto.FLOAT, tile)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("segmaformer", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_a_length_that_does_not_follow_from_the_tile_is_refused() -> None:
    scan = helper.make_node(
        "SelectiveScan", ["tiles", "tiles", "A", "tiles", "tiles"], ["logits"], domain="segmaformer"
    )
    with pytest.raises(ValueError, match=r"tiles has the shape \(1, 0, 4\).*follow from the tile"):
        plain_graph(model_of(scan, tile=(1, "tokens", 4)))


@pytest.mark.parametrize(
    ("kind", "domain"),
    [("Loop", ""), ("Scan", ""), ("SelectiveScan", "segmaformer"), ("Gelu", "com.microsoft")],
)
def test_what_would_end_a_compilers_process_is_refused(kind: str, domain: str) -> None:
    node = helper.make_node(kind, ["tiles"], ["logits"], "odd_one", domain=domain)
    with pytest.raises(ValueError, match=rf"{kind} \(odd_one\).*without loops"):
        check_plain(model_of(node))


def test_a_plain_network_stays_as_it_is() -> None:
    model = model_of(helper.make_node("Relu", ["tiles"], ["logits"]))
    assert plain_graph(model).graph.node == model.graph.node
