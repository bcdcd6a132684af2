"""The ops around the scan in ONNX Runtime: results, shapes, threads and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip("onnx")

from support.graphs.token_op_cases import (
    Case,
    causal_case,
    depthwise_case,
    draw,
    norm_case,
    patch_case,
    run,
)
from support.graphs.token_op_models import ATTRIBUTES, CASES, make_chain, make_model

from segmaformer.runtime.bindings.op_library import register_op_library
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes

BY_NAME = {case.op: case for case in CASES}


def open_session(model: Any, *, threads: int = 1) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    register_op_library(options)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_session(session: Any, case: Case) -> np.ndarray:
    feed = {f"input{i}": array for i, array in enumerate(case.inputs)}
    result: np.ndarray = session.run(None, feed)[0]
    return result


@pytest.mark.parametrize("batch", [None, "batch"], ids=["fixed batch", "free batch"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_equals_the_c_function(case: Case, batch: str | None) -> None:
    session = open_session(make_model(case, batch=batch))
    np.testing.assert_array_equal(run_session(session, case), run(case))


@pytest.mark.parametrize(
    "case",
    [
        depthwise_case(1, 20, 20, 20, 48),
        norm_case("InstanceNormGelu", 1, 20, 20, 20, 48),
        causal_case((1, 8000, 48), 4),
        patch_case((1, 2, 32, 32, 36), (20, 2, 3, 3, 3), (2, 2, 2), (1,) * 6),
    ],
    ids=lambda case: case.op,
)
def test_any_number_of_threads(case: Case) -> None:
    for threads in (1, 2, 5):
        found = run_session(open_session(make_model(case), threads=threads), case)
        np.testing.assert_array_equal(found, run(case))


@pytest.mark.parametrize(
    ("batch", "inferred"), [(None, [2, 3, 4, 5, 23]), ("n", ["n", 3, 4, 5, 23])]
)
def test_inferred_shape(batch: str | None, inferred: list[Any]) -> None:
    session = open_session(make_model(BY_NAME["InstanceNormGelu"], batch=batch))
    assert session.get_outputs()[0].shape == inferred


def test_the_sum_has_the_shape_of_the_large_input() -> None:
    session = open_session(make_model(BY_NAME["UpsampleAdd"]))
    assert session.get_outputs()[0].shape == list(BY_NAME["UpsampleAdd"].inputs[1].shape)


@pytest.mark.parametrize("read_again", [(), ("one",), ("two",)], ids=str)
def test_results_may_take_the_memory_of_what_nobody_reads_again(read_again: tuple[str]) -> None:
    """Build two norms and a sum in a row, some of whose results are outputs of the model."""
    norms = [norm_case(op, 1, 4, 4, 6, 23) for op in ("InstanceNormRelu", "InstanceNormGelu")]
    x, scale, bias = norms[0].inputs
    feed = {"x": x, "scale": scale, "bias": bias, "low": draw(1, 2, 2, 3, 23)}
    one = run(norms[0])
    two = run(replace(norms[1], inputs=(one, scale, bias)))
    attributes = TokenOpAttributes(scales=(2.0, 2.0, 2.0))
    three = run(Case("UpsampleAdd", (feed["low"], two), attributes))
    expected = {"one": one, "two": two, "three": three}
    nodes = [
        ("InstanceNormRelu", ["x", "scale", "bias"], "one", {}),
        ("InstanceNormGelu", ["one", "scale", "bias"], "two", {}),
        ("UpsampleAdd", ["low", "two"], "three", {"scales": attributes.scales}),
    ]
    outputs = [*read_again, "three"]
    session = open_session(make_chain(nodes, feed, outputs))
    for name, found in zip(outputs, session.run(outputs, feed), strict=True):
        np.testing.assert_array_equal(found, expected[name])


def test_a_residual_that_is_multiplied_too_keeps_its_memory() -> None:
    norm = norm_case("InstanceNormRelu", 1, 4, 4, 6, 23)
    x, scale, bias = norm.inputs
    feed = {"x": x, "scale": scale, "bias": bias, "weight": draw(23, 23)}
    one = run(norm)
    expected = run(Case("LinearAdd", (one, feed["weight"], bias, one), TokenOpAttributes()))
    nodes = [
        ("InstanceNormRelu", ["x", "scale", "bias"], "one", {}),
        ("LinearAdd", ["one", "weight", "bias", "one"], "y", {}),
    ]
    (found,) = open_session(make_chain(nodes, feed, ["y"])).run(None, feed)
    np.testing.assert_array_equal(found, expected)


def test_epsilon_may_be_left_out() -> None:
    case = BY_NAME["InstanceNormRelu"]
    model = make_model(case)
    del model.graph.node[0].attribute[:]
    np.testing.assert_array_equal(run_session(open_session(model), case), run(case))


def test_empty_batch() -> None:
    case = BY_NAME["DepthwiseConv3d"]
    session = open_session(make_model(case, batch="batch"))
    empty = replace(case, inputs=(case.inputs[0][:0], *case.inputs[1:]))
    assert run_session(session, empty).shape == (0, 3, 4, 5, 23)


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("DepthwiseConv3d", {"group": 2}, "group must be the channels, 23; found 2"),
        ("CausalConv1dSilu", {"pads": [1, 1]}, r"pads must add up to K - 1, 3; found \(1, 1\)"),
        ("PatchEmbed", {"strides": [2, 0, 2]}, r"strides must be .* to 1024; found \(2, 0, 2\)"),
        ("Upsample", {"scales": [2.5, 2, 2]}, r"scales must be three whole numbers .* 2\.5"),
    ],
)
def test_attributes_that_do_not_fit(op: str, attributes: dict[str, Any], message: str) -> None:
    case = BY_NAME[op]
    session = open_session(make_model(case, **attributes))
    with pytest.raises(Exception, match=message):
        run_session(session, case)


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("Upsample", {"scales": [2.0, 2.0]}, "scales must have 3 values; found 2"),
        ("CausalConv1dSilu", {"pads": [0] * 6}, "pads must have 2 values; found 6"),
        ("PatchEmbed", {"pads": [0, 0]}, "pads must have 6 values; found 2"),
    ],
)
def test_arrays_of_another_length_are_refused_on_loading(
    op: str, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        open_session(make_model(BY_NAME[op], **attributes))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_an_attribute_that_is_missing(case: Case) -> None:
    if set(ATTRIBUTES[case.op]) <= {"epsilon", "alpha"}:
        pytest.skip("it has none that may not be left out")
    model = make_model(case)
    del model.graph.node[0].attribute[:]
    session = open_session(model)
    with pytest.raises(Exception, match=rf"{case.op}: (group|scales|strides|pads) must"):
        run_session(session, case)


def test_shapes_that_do_not_fit() -> None:
    case = BY_NAME["UpsampleAdd"]
    session = open_session(make_model(case, batch="batch"))
    wrong = replace(case, inputs=(case.inputs[0][:1], case.inputs[1]))
    with pytest.raises(Exception, match=r"UpsampleAdd: expected x \(B, d, h, w, C\) and y"):
        run_session(session, wrong)
