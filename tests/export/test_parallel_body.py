from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

torch = pytest.importorskip("torch")

from segmaformer.export.function_body import ScanSignature
from segmaformer.export.parallel_body import parallel_scan_function
from segmaformer.export.plain_graph import plain_graph
from segmaformer.export.scan_op import DOMAIN, INPUTS, OP_TYPE
from segmaformer.ops import selective_scan
from segmaformer.ops.reference import selective_scan_reference

FULL = ScanSignature()
SIGNATURES = [ScanSignature(*flags) for flags in itertools.product([True, False], repeat=5)]
FLOAT16_STREAMS = ("u", "delta", "B", "C", "z")


@dataclasses.dataclass(frozen=True)
class Size:
    length: int
    channels: int = 5
    states: int = 3
    batch: int = 2


def scan_inputs(signature: ScanSignature, size: Size, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    stream = (size.batch, size.length, size.channels)
    inputs = {
        "u": random.standard_normal(stream),
        "delta": 0.3 * random.standard_normal(stream) - 1,
        # States that forget at once and states that remember thousands of tokens.
        "A": -np.exp(random.uniform(-9, 1, (size.channels, size.states))),
        "B": random.standard_normal((size.batch, size.length, size.states)),
        "C": random.standard_normal((size.batch, size.length, size.states)),
        "D": random.standard_normal(size.channels),
        "z": random.standard_normal(stream),
        "delta_bias": random.standard_normal(size.channels),
    }
    if not signature.delta_softplus:
        inputs["delta"] = np.abs(inputs["delta"])
        inputs["delta_bias"] = np.abs(inputs["delta_bias"])
    for name, present in (("D", "has_d"), ("z", "has_z"), ("delta_bias", "has_bias")):
        if not getattr(signature, present):
            del inputs[name]
    return {name: array.astype(np.float32) for name, array in inputs.items()}


def scan_model(signature: ScanSignature, inputs: dict[str, np.ndarray]) -> onnx.ModelProto:
    node = helper.make_node(
        OP_TYPE,
        [name if name in inputs else "" for name in INPUTS],
        ["y"],
        domain=DOMAIN,
        delta_softplus=int(signature.delta_softplus),
        reverse=int(bool(signature.reverse)),
    )

    def described(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        shape = ["batch", *array.shape[1:]] if array.ndim == 3 else array.shape
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        [node],
        "scan",
        [described(name, array) for name, array in inputs.items()],
        [described("y", inputs["u"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    y: np.ndarray = session.run(None, inputs)[0]
    return y


def parallel(signature: ScanSignature, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return run(plain_graph(scan_model(signature, inputs)), inputs)


def reference(signature: ScanSignature, inputs: dict[str, np.ndarray]) -> np.ndarray:
    tensors = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    y: np.ndarray = selective_scan_reference(
        *(tensors.get(name) for name in INPUTS),
        delta_softplus=signature.delta_softplus,
        reverse=bool(signature.reverse),
    ).numpy()
    return y


def kernel(signature: ScanSignature, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Run the native kernel, which is compared with the reference elsewhere and is quick."""
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    y: np.ndarray = selective_scan(
        *(tensors.get(name) for name in INPUTS),
        delta_softplus=signature.delta_softplus,
        reverse=bool(signature.reverse),
    ).numpy()
    return y


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("signature", SIGNATURES, ids=str)
def test_body_equals_reference(signature: ScanSignature) -> None:
    inputs = scan_inputs(signature, Size(75))
    assert error(parallel(signature, inputs), reference(signature, inputs)) <= 1e-6


# Around a chunk of 8, around what is doubled at once (64 chunks), and one level beyond.
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 511, 512, 513, 521, 4095, 4097])
def test_lengths(length: int, reverse: bool) -> None:
    signature = ScanSignature(reverse=reverse)
    inputs = scan_inputs(signature, Size(length, channels=3, states=2))
    assert error(parallel(signature, inputs), reference(signature, inputs)) <= 1e-6


@settings(max_examples=20)
@given(
    st.builds(Size, st.integers(1, 700), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    st.booleans(),
    st.integers(0, 99),
)
def test_shapes(size: Size, reverse: bool, seed: int) -> None:
    signature = ScanSignature(reverse=reverse)
    inputs = scan_inputs(signature, size, seed)
    assert error(parallel(signature, inputs), kernel(signature, inputs)) <= 2e-6


def test_rounding_does_not_grow_with_the_length() -> None:
    inputs = scan_inputs(FULL, Size(32_768, channels=4, states=8, batch=1))
    assert error(parallel(FULL, inputs), reference(FULL, inputs)) <= 1e-6


# The kernel's own rounding grows: its state takes every step.
@pytest.mark.parametrize(
    ("size", "reverse"),
    [
        (Size(262_144, channels=3, states=2, batch=1), True),
        (Size(40, channels=2, states=256), False),
    ],
    ids=str,
)
def test_long_sequences_and_many_states(size: Size, reverse: bool) -> None:
    signature = ScanSignature(reverse=reverse)
    inputs = scan_inputs(signature, size)
    assert error(parallel(signature, inputs), kernel(signature, inputs)) <= 5e-6


def slowly_decaying(length: int) -> dict[str, np.ndarray]:
    """States of up to 1e6 that remember the first token to the last."""
    inputs = scan_inputs(FULL, Size(length, batch=1))
    inputs["A"] = np.full_like(inputs["A"], -1e-6)
    inputs["delta"] = np.full_like(inputs["delta"], 3)
    inputs["u"] = np.full_like(inputs["u"], 20)
    inputs["B"] = np.abs(inputs["B"])
    return inputs


def decaying_at_once(length: int) -> dict[str, np.ndarray]:
    """Decays of exp(-6000) in every step: a quotient of two would be no number."""
    inputs = scan_inputs(FULL, Size(length, batch=1))
    inputs["A"] = np.full_like(inputs["A"], -200)
    inputs["delta"] = np.full_like(inputs["delta"], 30)
    return inputs


def beyond_the_cut_off(length: int) -> dict[str, np.ndarray]:
    """Test steps on both sides of 20, where softplus becomes the identity."""
    inputs = scan_inputs(FULL, Size(length, batch=1))
    inputs["delta"] = np.linspace(-30, 60, inputs["delta"].size, dtype=np.float32).reshape(
        inputs["delta"].shape
    )
    inputs["A"] *= 0.01
    return inputs


@pytest.mark.parametrize("make", [slowly_decaying, decaying_at_once, beyond_the_cut_off])
def test_extreme_decays(make: Callable[[int], dict[str, np.ndarray]]) -> None:
    inputs = make(2000)
    found = parallel(FULL, inputs)
    assert np.isfinite(found).all()
    assert error(found, reference(FULL, inputs)) <= 5e-6


def test_steps_below_zero_grow_as_in_the_reference() -> None:
    signature = ScanSignature(delta_softplus=False)
    inputs = scan_inputs(signature, Size(200))
    random = np.random.default_rng(1)
    inputs["delta"] = 0.2 * random.standard_normal(inputs["delta"].shape).astype(np.float32)
    inputs["delta_bias"] *= 0
    assert error(parallel(signature, inputs), reference(signature, inputs)) <= 5e-6


def test_float16_streams_have_a_float32_state() -> None:
    inputs = slowly_decaying(2000)
    inputs = {
        name: array.astype(np.float16) if name in FLOAT16_STREAMS else array
        for name, array in inputs.items()
    }
    inputs["C"] *= np.float16(1e-3)  # states far beyond 65,504, outputs within
    found = parallel(FULL, inputs)
    exact = {name: array.astype(np.float32) for name, array in inputs.items()}
    expected = reference(FULL, exact)
    assert np.abs(reference(FULL, {**exact, "C": np.ones_like(exact["C"])})).max() > 65_504
    assert found.dtype == np.float16
    assert error(found, expected) <= 2**-11


def test_nothing_of_the_size_of_all_states_exists() -> None:
    size = Size(4096, channels=16, states=8, batch=1)
    model = plain_graph(scan_model(FULL, scan_inputs(FULL, size)), batch=1)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    elements = [
        int(np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim]))
        for value in graph.value_info
    ]
    everything = size.length * size.channels * size.states
    assert max(elements) == everything // 8
    # Streams and states of a chunk have one size here; many more nodes would mean unrolling.
    assert len(graph.node) < 450


def test_an_open_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="one direction"):
        parallel_scan_function(
            ScanSignature(reverse=None), length=8, channels=1, states=1, name="scan"
        )


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (8, 1, 257)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    length, channels, states = sizes
    with pytest.raises(ValueError, match="at most 256 states"):
        parallel_scan_function(FULL, length=length, channels=channels, states=states, name="scan")
