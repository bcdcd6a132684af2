"""Calls of the op library's ops that it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs.token_op_cases import depthwise_case, draw, run

from segmaformer.runtime.bindings.token_ops import INPUT_COUNTS, TokenOpAttributes, run_token_op


def test_an_op_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no op has the name Convolve"):
        run_token_op("Convolve", [draw(1)], TokenOpAttributes(), draw(1))


@pytest.mark.parametrize("op", INPUT_COUNTS)
def test_too_few_inputs(op: str) -> None:
    with pytest.raises(ValueError, match=rf"{op}: expected {INPUT_COUNTS[op]} inputs; found 0"):
        run_token_op(op, [], TokenOpAttributes(), draw(1))


@pytest.mark.parametrize("op", INPUT_COUNTS)
def test_inputs_without_dimensions(op: str) -> None:
    inputs = [np.zeros((), np.float32)] * INPUT_COUNTS[op]
    with pytest.raises(ValueError, match=rf"{op}: expected x .*; found \(\)"):
        run_token_op(op, inputs, TokenOpAttributes(scales=(1, 1, 1)), draw(1))


def test_an_instruction_set_that_is_missing() -> None:
    with pytest.raises(ValueError, match="lacks the instruction set asked for"):
        run(depthwise_case(1, 1, 1, 1, 1), isa="mmx")


def test_memory_of_another_shape() -> None:
    case = depthwise_case(1, 2, 2, 2, 3)
    with pytest.raises(ValueError, match=r"the result has shape \(1, 2, 2, 2, 3\); found .*\(3\)"):
        run_token_op(case.op, case.inputs, case.attributes, draw(3))


@pytest.mark.parametrize("x", [draw(1, 2, 2, 2, 3).astype(float), draw(3, 2, 2, 2, 1).T])
def test_arrays_of_another_type_or_layout(x: np.ndarray) -> None:
    case = depthwise_case(1, 2, 2, 2, 3)
    with pytest.raises(ValueError, match="takes C-contiguous float32 arrays"):
        run_token_op(case.op, (x, *case.inputs[1:]), case.attributes, draw(1, 2, 2, 2, 3))
