from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnxruntime
from onnx import numpy_helper
from support.graphs.small_onnx import run, small_network, some_tiles

from segmaformer.calibration.flavours import CPU, FLAVOURS, TENSORRT, Flavour
from segmaformer.calibration.layers import Layer, find_layers
from segmaformer.calibration.placement import place


@pytest.fixture(scope="module")
def model() -> Any:
    return small_network()


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return some_tiles()


@pytest.fixture(scope="module")
def scales(model: Any, tiles: np.ndarray) -> dict[str, float]:
    """Return the largest magnitude of the observed tensors on `tiles`, over 127."""
    names = [name for name in CPU.observed(find_layers(model)) if name != "logits"]
    altered = onnx.ModelProto()
    altered.CopyFrom(model)
    altered.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name != "tiles"
    )
    arrays = run(altered, tiles, [name for name in names if name != "tiles"])
    found = dict(zip([name for name in names if name != "tiles"], arrays, strict=True))
    return {name: float(np.abs(array).max()) / 127 for name, array in found.items()}


def chosen(model: Any, flavour: Flavour, *names: str) -> tuple[Layer, ...]:
    candidates = flavour.candidates(find_layers(model))
    return tuple(layer for layer in candidates if not names or layer.name in names)


def count(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def optimised(model: Any, folder: Path) -> Counter[str]:
    """List the operators that remain after ONNX Runtime's optimisation."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return count(onnx.load(folder / "optimised.onnx"))


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.variant)
def test_the_quantised_network_is_near_and_not_equal(
    model: Any, scales: dict[str, float], tiles: np.ndarray, flavour: Flavour
) -> None:
    placed = place(model, chosen(model, flavour), scales, flavour)
    (expected,), (found,) = run(model, tiles), run(placed, tiles)
    error = np.abs(found - expected).max() / np.ptp(expected)
    assert 1e-4 < error < 0.05
    assert [value.name for value in placed.graph.input] == ["tiles"]
    assert [value.name for value in placed.graph.output] == ["logits"]


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.variant)
def test_no_layers_leave_the_network_as_it_is(
    model: Any, tiles: np.ndarray, flavour: Flavour
) -> None:
    placed = place(model, (), {}, flavour)
    np.testing.assert_array_equal(run(placed, tiles)[0], run(model, tiles)[0])
    assert count(placed) == count(model)


def test_the_given_model_is_unchanged(model: Any, scales: dict[str, float]) -> None:
    before = model.SerializeToString(deterministic=True)
    place(model, chosen(model, CPU), scales, CPU)
    assert model.SerializeToString(deterministic=True) == before


def test_tensorrt_gets_zero_points_of_zero_and_no_integer_bias(
    model: Any, scales: dict[str, float]
) -> None:
    placed = place(model, chosen(model, TENSORRT), scales, TENSORRT)
    constants = {tensor.name: tensor for tensor in placed.graph.initializer}
    for node in placed.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = numpy_helper.to_array(constants[node.input[2]])
            assert (zero.dtype, zero) == (np.int8, 0)
    types = {tensor.data_type for tensor in placed.graph.initializer}
    assert onnx.TensorProto.INT32 not in types
    assert onnx.TensorProto.UINT8 not in types
    assert count(placed)["QuantizeLinear"] == 3
    assert count(placed)["DequantizeLinear"] == 6


def test_onnxruntime_runs_integer_kernels(
    model: Any, scales: dict[str, float], tmp_path: Path
) -> None:
    placed = place(model, chosen(model, CPU), scales, CPU)
    (zero,) = [t for t in placed.graph.initializer if t.name == "int8_zero_point"]
    assert numpy_helper.to_array(zero) == 128
    found = optimised(placed, tmp_path)
    assert found["QLinearConv"] == 3
    assert found["MatMulIntegerToFloat"] == 1
    assert found["Conv"] == 2  # embed and last
    assert found["MatMul"] == found["FusedMatMul"] == 0


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.variant)
def test_layers_are_chosen_one_by_one(
    model: Any, scales: dict[str, float], tiles: np.ndarray, flavour: Flavour
) -> None:
    (expected,) = run(model, tiles)
    errors = {}
    for layer in chosen(model, flavour):
        placed = place(model, [layer], scales, flavour)
        assert [node.name for node in placed.graph.node if node.name == layer.name]
        int8 = [t for t in placed.graph.initializer if t.data_type == onnx.TensorProto.INT8]
        assert [list(t.dims) for t in int8 if len(t.dims) > 1] == [
            list(t.dims) for t in model.graph.initializer if t.name == layer.weight
        ]
        errors[layer.name] = np.abs(run(placed, tiles)[0] - expected).max()
    assert min(errors.values()) > 0
    assert len(set(errors.values())) == len(errors)


def test_an_activation_that_two_layers_read_is_rounded_once(scales: dict[str, float]) -> None:
    model = small_network()
    nodes = {node.name: node for node in model.graph.node}
    nodes["conv"].input[0] = "r"
    placed = place(model, chosen(model, TENSORRT, "pointwise", "conv"), scales, TENSORRT)
    assert count(placed)["QuantizeLinear"] == 1


def test_a_convolution_after_a_convolution_reads_its_rounded_output(
    model: Any, scales: dict[str, float]
) -> None:
    placed = place(model, chosen(model, CPU, "pointwise", "conv"), scales, CPU)
    assert count(placed)["QuantizeLinear"] == 3  # r, p and k; p serves both


def test_a_weight_that_an_unchosen_layer_shares_stays(
    scales: dict[str, float], tiles: np.ndarray
) -> None:
    model = small_network()
    model.graph.node.append(onnx.helper.make_node("MatMul", ["m", "w_matmul"], ["o"], "again"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("o", 1, ["b", 480, 16]))
    placed = place(model, chosen(model, TENSORRT, "matmul"), scales, TENSORRT)
    assert "w_matmul" in {tensor.name for tensor in placed.graph.initializer}
    assert np.abs(run(placed, tiles)[0] - run(model, tiles)[0]).max() < 0.1


def replace(model: Any, name: str, array: np.ndarray) -> None:
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))


def test_a_channel_of_zeros_stays_zero(scales: dict[str, float], tiles: np.ndarray) -> None:
    model = small_network()
    (tensor,) = [t for t in model.graph.initializer if t.name == "w_conv"]
    weight = numpy_helper.to_array(tensor).copy()
    weight[3] = 0
    replace(model, "w_conv", weight)
    for flavour in FLAVOURS:
        placed = place(model, chosen(model, flavour, "conv"), scales, flavour)
        constants = {t.name: numpy_helper.to_array(t) for t in placed.graph.initializer}
        assert (constants["w_conv_int8_scale"] > 0).all()
        assert (constants["w_conv_int8"][3] == 0).all()
        expected = run(model, tiles)[0]
        assert np.abs(run(placed, tiles)[0] - expected).max() < 0.05 * np.ptp(expected)


def test_a_bias_far_beyond_the_products_still_fits(
    scales: dict[str, float], tiles: np.ndarray
) -> None:
    """Steps of 1e-10 would need an int32 of 1e10."""
    model = small_network()
    (tensor,) = [t for t in model.graph.initializer if t.name == "w_conv"]
    replace(model, "w_conv", numpy_helper.to_array(tensor) * 1e-9)
    replace(model, "b_conv", np.full(16, 2.0))
    placed = place(model, chosen(model, CPU, "conv"), {**scales, "k": 2 / 127}, CPU)
    (expected,), (found,) = run(model, tiles), run(placed, tiles)
    assert np.abs(found - expected).max() < 1e-3 * np.ptp(expected) + 1e-4


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.variant)
def test_weights_alone_shrink_the_file_and_move_logits_less(
    model: Any, scales: dict[str, float], tiles: np.ndarray, flavour: Flavour
) -> None:
    layers = chosen(model, flavour)
    (expected,) = run(model, tiles)
    held, full = (
        place(model, (), {}, flavour, weights_only=layers),
        place(model, layers, scales, flavour),
    )
    assert count(held)["QuantizeLinear"] == 0
    errors = [np.abs(run(each, tiles)[0] - expected).max() for each in (held, full)]
    assert 0 < errors[0] < errors[1]
    float_bytes = sum(4 * layer.parameters for layer in layers)
    shrunk = len(model.SerializeToString()) - len(held.SerializeToString())
    assert shrunk > 0.6 * float_bytes


@pytest.mark.parametrize("scale", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(
    model: Any, scales: dict[str, float], scale: float | None
) -> None:
    altered = {name: value for name, value in scales.items() if name != "r"}
    if scale is not None:
        altered["r"] = scale
    with pytest.raises(ValueError, match="scale of r is"):
        place(model, chosen(model, TENSORRT, "pointwise"), altered, TENSORRT)


def test_a_layer_of_another_network_is_refused(model: Any, scales: dict[str, float]) -> None:
    import dataclasses

    (layer,) = chosen(model, TENSORRT, "conv")
    stranger = dataclasses.replace(layer, name="elsewhere")
    with pytest.raises(ValueError, match="no layer elsewhere"):
        place(model, [stranger], scales, TENSORRT)


def test_a_real_network_keeps_its_scan_and_its_function(tiny_onnx: Any) -> None:
    layers = TENSORRT.candidates(find_layers(tiny_onnx))
    assert len(layers) > 10
    placed = place(tiny_onnx, layers, dict.fromkeys(TENSORRT.observed(layers), 0.05), TENSORRT)
    assert [function.name for function in placed.functions] == ["SelectiveScan"]
    before, after = count(tiny_onnx), count(placed)
    assert {op: after[op] for op in before} == before
