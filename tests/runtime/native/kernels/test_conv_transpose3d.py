"""The transposed convolution whose kernel is its stride against its definition in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.graphs.token_op_cases import (
    Case,
    assert_close,
    conv_case,
    conv_transpose_case,
    draw,
    run,
)

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, run_token_op

CASES = {
    "one voxel": conv_transpose_case((1, 1, 1, 1, 1), 1, (2, 2, 2)),
    "even extents": conv_transpose_case((2, 5, 4, 6, 8), 9, (2, 2, 2)),
    "odd extents": conv_transpose_case((1, 4, 5, 7, 9), 8, (2, 2, 2)),
    "one plane of taps": conv_transpose_case((2, 7, 3, 5, 31), 6, (1, 2, 2)),
    "taps along the width alone": conv_transpose_case((1, 3, 2, 5, 17), 5, (1, 1, 2)),
    "no taps along the width": conv_transpose_case((1, 3, 4, 5, 6), 11, (2, 2, 1)),
    "three taps along the depth": conv_transpose_case((1, 3, 4, 5, 6), 3, (3, 1, 2)),
    "one tap": conv_transpose_case((2, 5, 3, 4, 23), 7, (1, 1, 1)),
    "rows of several spans": conv_transpose_case((1, 2, 1, 2, 901), 3, (2, 2, 2)),
    "many short rows": conv_transpose_case((1, 3, 18, 22, 2), 4, (2, 2, 2)),
    "several tasks": conv_transpose_case((1, 37, 10, 19, 23), 19, (2, 2, 2)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, case: Case) -> None:
    for threads in (1, 2, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_one_tap_is_a_convolution(isa: str) -> None:
    case = CASES["one tap"]
    x, weight, bias = case.inputs
    turned = np.ascontiguousarray(weight.swapaxes(0, 1))
    conv = replace(conv_case(x.shape, len(bias), 1, plane_taps=1), inputs=(x, turned, bias))
    np.testing.assert_array_equal(run(case, isa=isa), run(conv, isa=isa))


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_block(isa: str, value: float) -> None:
    case = conv_transpose_case((1, 2, 3, 4, 50), 3, (2, 2, 2))
    spoilt = case.inputs[0].copy()
    spoilt[0, 1, 2, 1, 20] = value
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    block = y[..., 4:6, 2:4, 40:42]
    assert not np.isfinite(block).any()
    block[:] = 0
    assert np.isfinite(y).all()


def test_empty_batch() -> None:
    case = CASES["even extents"]
    empty = replace(case, inputs=(case.inputs[0][:0], *case.inputs[1:]))
    assert run(empty).shape == (0, 9, 8, 12, 16)


@pytest.mark.parametrize(
    ("weight", "strides", "message"),
    [
        ((3, 5, 2, 2, 2), (2, 2, 2), r"expected x .*; found .*\(3, 5, 2, 2, 2\)"),
        ((2, 4, 2, 2, 2), (2, 2, 2), r"expected x .*; found .*\(2, 4, 2, 2, 2\)"),
        ((2, 5, 2, 2, 3), (2, 2, 3), r"expected x .*; found .*\(2, 5, 2, 2, 3\)"),
        ((2, 5, 2, 2), (2, 2, 1), r"expected x .*; found .*\(2, 5, 2, 2\)"),
        ((2, 5, 2, 2, 2), (1, 2, 2), r"strides must be the extents of the kernel; found \(1, 2"),
        ((2, 5, 2, 2, 2), (0, 0, 0), r"strides must be the extents of the kernel; found \(0, 0"),
    ],
)
def test_weights_and_strides_that_do_not_fit(
    weight: tuple[int, ...], strides: tuple[int, ...], message: str
) -> None:
    inputs = [draw(1, 2, 3, 4, 5), draw(*weight), draw(5)]
    with pytest.raises(ValueError, match=f"ConvTranspose3d: {message}"):
        run_token_op(
            "ConvTranspose3d", inputs, TokenOpAttributes(strides=strides), draw(1, 5, 6, 8, 10)
        )
