"""Selective scan in ONNX Runtime: types, absent inputs, shapes, threads, errors, golden outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip("onnx")

from support.graphs.scan_models import (
    FLOAT32,
    NAMES,
    ONNX_TYPES,
    OPTIONAL,
    SUBSETS,
    Arrays,
    make_inputs,
    make_model,
    run_directly,
    run_session,
)

from segmaformer.runtime.bindings.op_library import op_library_path, register_op_library

TensorProto = onnx.TensorProto

GOLDENS = (
    *("bare", "edge_delta", "grouped_bc", "large_delta", "len1", "long_l2049", "n16_full"),
    *("n1_full", "n256", "n4_b2_d20", "n64", "n8_d72_init", "no_D", "no_bias", "no_softplus"),
    *("no_z", "tiny_delta"),
)


def open_session(model: Any, *, threads: int = 1, registered: bool = True) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if registered:
        register_op_library(options)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("drop_trailing", [False, True], ids=["empty names", "left out"])
@pytest.mark.parametrize("optional", SUBSETS, ids="+".join)
@pytest.mark.parametrize("element_type", ONNX_TYPES)
def test_equals_the_c_function(
    element_type: int, optional: tuple[str, ...], drop_trailing: bool
) -> None:
    inputs = make_inputs(element_type, optional)
    for reverse in (0, 1):
        model = make_model(
            inputs, element_type, drop_trailing=drop_trailing, delta_softplus=1, reverse=reverse
        )
        found = run_session(open_session(model), inputs, element_type)
        expected = run_directly(inputs, element_type, delta_softplus=True, reverse=bool(reverse))
        np.testing.assert_array_equal(found, expected)


def test_attributes_default_to_zero() -> None:
    inputs = make_inputs(FLOAT32, ())
    found = run_session(open_session(make_model(inputs)), inputs, FLOAT32)
    np.testing.assert_array_equal(found, run_directly(inputs, FLOAT32))


@pytest.mark.parametrize("threads", [1, 2, 5, 0])
def test_any_number_of_threads(threads: int) -> None:
    """Long enough that the sequence is cut where there are threads to spare."""
    inputs = make_inputs(FLOAT32, OPTIONAL, length=4000, states=16)
    session = open_session(make_model(inputs, delta_softplus=1), threads=threads)
    expected = run_directly(inputs, FLOAT32, delta_softplus=True)
    for _ in range(3):
        found = run_session(session, inputs, FLOAT32)
        assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


def test_thread_entry_that_is_no_number() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("segmaformer.threads", "many")
    with pytest.raises(Exception, match=r"segmaformer\.threads must be a positive integer"):
        options.register_custom_ops_library(str(op_library_path()))


@pytest.mark.parametrize(
    ("declared", "inferred"),
    [
        ((2, 40, 21), [2, 40, 21]),
        (("batch", 40, 21), ["batch", 40, 21]),
        ((None, 40, 21), []),
        (None, []),
    ],
)
def test_inferred_shape(declared: Any, inferred: list[Any]) -> None:
    major, minor = (int(part) for part in onnxruntime.__version__.split(".")[:2])
    if (major, minor) < (1, 24):
        pytest.skip("this ONNX Runtime infers no shapes of custom ops")
    inputs = make_inputs(FLOAT32, ())
    session = open_session(make_model(inputs, shapes={"u": declared, "delta": declared}))
    assert session.get_outputs()[0].shape == inferred
    assert run_session(session, inputs, FLOAT32).shape == (2, 40, 21)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("B", (2, 39, 6), r"B has shape \(2, 39, 6\); u and A ask for \(2, 40, 6\)"),
        ("A", (20, 6), r"A has shape \(20, 6\)"),
        ("D", (1, 21), r"D has shape \(1, 21\)"),
        ("z", (1, 40, 21), r"z has shape \(1, 40, 21\)"),
        ("u", (40, 21), r"expected u \(B, L, D\) and A \(D, N\); found \(40, 21\)"),
    ],
)
def test_shapes_that_do_not_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    inputs = make_inputs(FLOAT32, OPTIONAL)
    inputs[name] = np.zeros(shape, np.float32)
    session = open_session(make_model(inputs, shapes=dict.fromkeys(NAMES)))
    with pytest.raises(Exception, match=message):
        session.run(None, inputs)


def test_too_many_states() -> None:
    inputs = make_inputs(FLOAT32, (), states=257)
    session = open_session(make_model(inputs))
    with pytest.raises(Exception, match="states must lie between 1 and 256"):
        session.run(None, inputs)


def test_mixed_element_types_are_refused_on_loading() -> None:
    inputs = make_inputs(FLOAT32, ())
    model = make_model(inputs)
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(Exception, match="SelectiveScan"):
        open_session(model)


def test_empty_sequence() -> None:
    inputs = make_inputs(FLOAT32, ())
    empty = {name: a[:, :0] if a.ndim == 3 else a for name, a in inputs.items()}
    session = open_session(make_model(inputs, shapes=dict.fromkeys(NAMES)))
    assert session.run(None, empty)[0].shape == (2, 0, 21)


def test_kernel_wins_over_the_function_body(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from segmaformer.export.function_body import add_function_body

    inputs = make_inputs(FLOAT32, OPTIONAL)
    model = make_model(inputs, delta_softplus=1)
    add_function_body(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    register_op_library(options)
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    assert [node.op_type for node in graph.node] == ["SelectiveScan"]


def golden_groups(golden: Any) -> Iterator[tuple[slice, Arrays]]:
    """Return token-major inputs of a golden file, one set for each group of B and C."""
    arrays = {name: golden[name] for name in NAMES if name in golden.files}
    b, c = (a if a.ndim == 4 else a[:, None] for a in (arrays.pop("B"), arrays.pop("C")))
    width = arrays["A"].shape[0] // b.shape[1]
    for group in range(b.shape[1]):
        channels = slice(group * width, (group + 1) * width)
        inputs = {
            name: a[:, channels].swapaxes(1, 2) if a.ndim == 3 else a[channels]
            for name, a in arrays.items()
        }
        inputs |= {"B": b[:, group].swapaxes(1, 2), "C": c[:, group].swapaxes(1, 2)}
        yield (
            channels,
            {
                name: np.ascontiguousarray(inputs[name], np.float32)
                for name in NAMES
                if name in inputs
            },
        )


@pytest.mark.parametrize("native", [True, False], ids=["op", "function body"])
@pytest.mark.parametrize("name", GOLDENS)
def test_published_outputs(golden_dir: Path, name: str, native: bool) -> None:
    golden = np.load(golden_dir / f"scan_{name}.npz")
    softplus = int("delta_softplus" in golden.files and golden["delta_softplus"])
    expected = golden["out"].swapaxes(1, 2)
    for channels, inputs in golden_groups(golden):
        model = make_model(inputs, delta_softplus=softplus)
        if not native:
            pytest.importorskip("torch")
            from segmaformer.export.function_body import add_function_body

            add_function_body(model)
        found = open_session(model, registered=native).run(None, inputs)[0]
        error = np.abs(found - expected[..., channels]).max()
        assert error <= 4 * float(golden["noise"])
