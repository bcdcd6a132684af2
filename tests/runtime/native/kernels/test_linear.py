"""Products of tokens against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs.token_op_cases import (
    Case,
    assert_close,
    draw,
    folded_norm_case,
    gelu_linear_add_case,
    linear_add_case,
    linear_upsample_add_case,
    norm_linear_case,
    relu_linear_case,
    run,
)

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, run_token_op

CASES = {
    "norm and 36 to 144": norm_linear_case((1, 1000), 36, 144),
    "norm and 66 to 264": norm_linear_case((300,), 66, 264),
    "what is left of a norm": folded_norm_case((1, 1001), 36, 37),
    "264 to 66": linear_add_case((2, 130), 264, 66),
    "GELU and 144 to 36": gelu_linear_add_case((1, 3, 9, 20), 144, 36),
    "ReLU and 256 to 3": relu_linear_case((1, 3, 9, 20), 256, 3),
    "a decoder's sum": linear_upsample_add_case((1, 2, 3, 4), (4, 4, 4), 37, 256),
    "one channel": norm_linear_case((3, 5), 1, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, case: Case) -> None:
    for threads in (1, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_tokens_far_from_zero_keep_their_digits(isa: str) -> None:
    """Nearly constant tokens, as those of a flat background are, about a mean of a thousand."""
    _, *weights = norm_linear_case((1, 200), 36, 8).inputs
    x = 1000 + draw(1, 200, 36) / 64
    case = Case("NormLinear", (x, *weights), TokenOpAttributes())
    assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize(
    "case", [linear_add_case((2, 101), 7, 29), gelu_linear_add_case((2, 3, 4, 5), 7, 29)]
)
def test_the_result_may_take_the_memory_of_the_residual(case: Case) -> None:
    expected = run(case)
    memory = case.inputs[-1].copy()
    run_token_op(case.op, [*case.inputs[:-1], memory], case.attributes, memory, threads=2)
    np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize(
    ("case", "wrong", "shape"),
    [
        (norm_linear_case((2, 4), 3, 5), 1, (4, 5)),
        (norm_linear_case((2, 4), 3, 5), 4, (5,)),
        (linear_add_case((2, 4), 3, 5), 3, (2, 1, 5)),
        (folded_norm_case((2, 4), 3, 5), 2, (3,)),
        (gelu_linear_add_case((1, 2, 2, 2), 3, 5), 0, (1, 2, 3)),
        (gelu_linear_add_case((1, 2, 2, 2), 3, 5), 5, (1, 2, 2, 1, 5)),
        (relu_linear_case((1, 2, 2, 2), 3, 5), 2, (4,)),
        (linear_upsample_add_case((1, 2, 2, 2), (2, 2, 2), 3, 5), 4, (1, 3, 4, 4, 5)),
        (linear_upsample_add_case((1, 2, 2, 2), (2, 2, 2), 3, 5), 5, (1, 1, 1, 1, 4)),
        (linear_upsample_add_case((1, 2, 2, 2), (2, 2, 2), 3, 5), 3, (1, 0, 2, 2, 5)),
    ],
)
def test_shapes_that_do_not_fit(case: Case, wrong: int, shape: tuple[int, ...]) -> None:
    inputs = list(case.inputs)
    inputs[wrong] = draw(*shape)
    with pytest.raises(ValueError, match=f"{case.op}: expected x"):
        run_token_op(case.op, inputs, TokenOpAttributes(), draw(1))
