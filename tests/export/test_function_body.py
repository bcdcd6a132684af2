from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")

from segmaformer.export.function_body import (
    ScanSignature,
    add_function_body,
    selective_scan_function,
    strip_function_body,
)
from segmaformer.export.scan_op import DOMAIN, INPUTS, OP_TYPE
from segmaformer.ops.reference import selective_scan_reference

BATCH, LENGTH, CHANNELS, STATES = 2, 19, 5, 3
SHAPES = {
    **dict.fromkeys(("u", "delta", "z"), (BATCH, LENGTH, CHANNELS)),
    **dict.fromkeys(("B", "C"), (BATCH, LENGTH, STATES)),
    **dict.fromkeys(("D", "delta_bias"), (CHANNELS,)),
    "A": (CHANNELS, STATES),
}
SIGNATURES = [ScanSignature(*flags) for flags in itertools.product([True, False], repeat=5)]


def scan_inputs(signature: ScanSignature, scale: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal(shape) for name, shape in SHAPES.items()}
    inputs["delta"] = inputs["delta"] * scale
    inputs["A"] = -np.exp(inputs["A"])
    for name, given in (("D", "has_d"), ("z", "has_z"), ("delta_bias", "has_bias")):
        if not getattr(signature, given):
            del inputs[name]
    return {name: array.astype(np.float32) for name, array in inputs.items()}


def scan_model(signature: ScanSignature, inputs: dict[str, np.ndarray]) -> onnx.ModelProto:
    node = helper.make_node(
        OP_TYPE,
        [name if name in inputs else "" for name in INPUTS],
        ["y"],
        domain=DOMAIN,
        delta_softplus=int(signature.delta_softplus),
        reverse=int(signature.reverse),
    )
    graph = helper.make_graph(
        [node],
        "scan",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPES["u"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("signature", SIGNATURES, ids=str)
def test_body_equals_reference(signature: ScanSignature) -> None:
    import onnxruntime

    inputs = scan_inputs(signature, scale=0.3)
    model = scan_model(signature, inputs)
    add_function_body(model)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    tensors = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    expected = selective_scan_reference(
        *(tensors.get(name) for name in INPUTS),
        delta_softplus=signature.delta_softplus,
        reverse=signature.reverse,
    ).numpy()
    found = session.run(None, inputs)[0]
    # Float32 against float64; without softplus steps may be negative and the state grows.
    assert np.abs(found - expected).max() <= 5e-6 * max(1, np.abs(expected).max())


def test_small_steps_keep_their_digits() -> None:
    import onnxruntime

    signature = ScanSignature(has_bias=False, has_d=False, has_z=False)
    inputs = scan_inputs(signature)
    inputs["delta"] = np.full(SHAPES["delta"], -20, np.float32)  # softplus: 2.1e-9
    model = scan_model(signature, inputs)
    add_function_body(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    tensors = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    expected = selective_scan_reference(
        *(tensors.get(name) for name in INPUTS), delta_softplus=True
    ).numpy()
    found = session.run(None, inputs)[0]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def two_scans(**attributes: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Build a model whose second scan has other attributes than its first."""
    inputs = scan_inputs(ScanSignature(), scale=0.3)
    model = scan_model(ScanSignature(), inputs)
    second = helper.make_node(
        OP_TYPE, list(model.graph.node[0].input), ["y2"], domain=DOMAIN, **attributes
    )
    model.graph.node.append(second)
    model.graph.output.append(helper.make_tensor_value_info("y2", TensorProto.FLOAT, SHAPES["u"]))
    return model, inputs


def test_one_body_serves_both_directions() -> None:
    import onnxruntime

    model, inputs = two_scans(delta_softplus=1, reverse=1)
    add_function_body(model)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    tensors = [torch.from_numpy(inputs[name]).double() for name in INPUTS]
    for found, reverse in zip(session.run(None, inputs), (False, True), strict=True):
        expected = selective_scan_reference(*tensors, delta_softplus=True, reverse=reverse)
        np.testing.assert_allclose(found, expected.numpy(), atol=5e-6)


def test_direction_is_chosen_once_when_the_file_is_loaded(tmp_path: Path) -> None:
    import onnxruntime

    model, _ = two_scans(delta_softplus=1, reverse=1)
    add_function_body(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("Scan") == 2
    assert "If" not in kinds


def test_a_node_without_attributes_runs_forward_without_softplus() -> None:
    model, _ = two_scans(reverse=1)
    del model.graph.node[0].attribute[:]
    add_function_body(model)
    onnx.checker.check_model(model)
    defaults = {attribute.name: attribute.i for attribute in model.functions[0].attribute_proto}
    assert defaults == {"delta_softplus": 0, "reverse": 0}


def test_different_signatures_are_refused() -> None:
    model, _ = two_scans(reverse=1)
    with pytest.raises(ValueError, match="different signatures"):
        add_function_body(model)


def test_strip_leaves_other_functions() -> None:
    signature = ScanSignature()
    model = scan_model(signature, scan_inputs(signature))
    other = selective_scan_function(signature)
    other.domain = "elsewhere"
    model.functions.append(other)
    add_function_body(model)
    model.functions.append(other)
    strip_function_body(model)
    assert [function.domain for function in model.functions] == ["elsewhere"]
