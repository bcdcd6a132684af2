from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import numpy_helper
from support.graphs.small_onnx import ALL, CHANNELS, DENSE, TILE, small_network

from segmaformer.calibration.flavours import CPU, FLAVOURS, TENSORRT
from segmaformer.calibration.layers import find_layers

VOXELS = int(np.prod(TILE))


@pytest.fixture(scope="module")
def model() -> Any:
    return small_network()


def test_every_product_with_a_constant_weight_is_found_in_order(model: Any) -> None:
    kinds = {layer.name: layer.kind for layer in find_layers(model)}
    assert list(kinds) == list(ALL)
    assert kinds == {
        "embed": "conv",
        "depthwise": "depthwise",
        "pointwise": "pointwise",
        "conv": "conv",
        "matmul": "matmul",
        "last": "pointwise",
    }


@pytest.mark.parametrize(
    ("name", "channels", "axis", "parameters"),
    [
        ("embed", (1, CHANNELS), 0, 27 * CHANNELS),
        ("depthwise", (CHANNELS, CHANNELS), 0, 27 * CHANNELS),
        ("conv", (CHANNELS, CHANNELS), 0, 27 * CHANNELS**2),
        ("matmul", (CHANNELS, CHANNELS), 1, CHANNELS**2),
        ("last", (CHANNELS, 3), 0, 3 * CHANNELS),
    ],
)
def test_size_and_arithmetic_of_each_kind(
    model: Any, name: str, channels: tuple[int, int], axis: int, parameters: int
) -> None:
    (layer,) = [layer for layer in find_layers(model) if layer.name == name]
    assert (layer.channels, layer.axis, layer.parameters) == (channels, axis, parameters)
    assert layer.macs == VOXELS * parameters


def test_only_what_nothing_follows_is_last(model: Any) -> None:
    assert [layer.name for layer in find_layers(model) if layer.is_last] == ["last"]


def test_the_biases_of_nodes_are_known(model: Any) -> None:
    biases = {layer.name: layer.bias for layer in find_layers(model)}
    assert biases["conv"] == "b_conv"
    assert biases["pointwise"] is None
    assert biases["matmul"] is None


@pytest.mark.parametrize(
    ("flavour", "expected"), [(TENSORRT, set(DENSE)), (CPU, {*DENSE, "depthwise"})]
)
def test_candidates_leave_out_the_last_layer_and_few_channels(
    model: Any, flavour: Any, expected: set[str]
) -> None:
    assert {layer.name for layer in flavour.candidates(find_layers(model))} == expected


def test_observed_tensors_are_named_once(model: Any) -> None:
    for flavour in FLAVOURS:
        observed = flavour.observed(flavour.candidates(find_layers(model)))
        assert len(set(observed)) == len(observed)
        assert {"r", "p", "t"} <= set(observed)
        assert ("k" in observed) == flavour.rounds_conv_outputs


@pytest.mark.parametrize("what", ["variable weight", "float16 weight"])
def test_other_products_are_no_layers(model: Any, what: str) -> None:
    altered = onnx.ModelProto()
    altered.CopyFrom(model)
    nodes = {node.name: node for node in altered.graph.node}
    if what == "variable weight":
        nodes["matmul"].input[1] = "t"
    else:
        (weight,) = [t for t in altered.graph.initializer if t.name == "w_point"]
        half = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half, "w_point"))
    missing = {"variable weight": "matmul", "float16 weight": "pointwise"}
    altered.graph.value_info.clear()
    found = {layer.name for layer in find_layers(altered)}
    assert found == set(ALL) - {missing[what]}


@pytest.mark.parametrize("name", ["", "conv"])
def test_nodes_that_cannot_be_told_apart_are_refused(model: Any, name: str) -> None:
    altered = onnx.ModelProto()
    altered.CopyFrom(model)
    altered.graph.node[0].name = name
    with pytest.raises(ValueError, match="without names of their own"):
        find_layers(altered)
