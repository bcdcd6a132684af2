"""The patch embedding against its definition in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs.token_op_cases import Case, assert_close, draw, patch_case, run

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, run_token_op

CASES = {
    "SegMaFormer's first": patch_case((1, 4, 19, 33, 67), (36, 4, 7, 7, 7), (4,) * 3, (3,) * 6),
    "its second": patch_case((2, 36, 5, 9, 32), (66, 36, 3, 3, 3), (2,) * 3, (1,) * 6),
    "one voxel": patch_case((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (2,) * 3),
    "kernel below stride": patch_case((1, 2, 5, 9, 130), (5, 2, 1, 2, 2), (3, 4, 4)),
    "rows of several vectors": patch_case((1, 1, 3, 3, 203), (13, 1, 2, 2, 5), (1, 1, 2), (1,) * 6),
    "nothing but padding": patch_case((1, 2, 1, 1, 1), (3, 2, 2, 2, 2), (3,) * 3, (4,) * 6),
    "inputs that no output sees": patch_case((1, 2, 9, 9, 71), (3, 2, 2, 2, 2), (5, 6, 7)),
    "pads on one side": patch_case(
        (1, 2, 4, 4, 40), (24, 2, 3, 3, 3), (2,) * 3, (2, 0, 1, 0, 2, 5)
    ),
    "SegMaFormer's first, filtered": patch_case(
        (2, 4, 19, 33, 128), (36, 4, 7, 7, 7), (4,) * 3, (3,) * 6
    ),
    "its second, filtered": patch_case((2, 36, 5, 9, 63), (66, 36, 3, 3, 3), (2,) * 3, (1,) * 6),
    "filtered, each axis its own": patch_case(
        (1, 3, 9, 40, 93), (37, 3, 4, 6, 5), (2, 4, 3), (1, 2, 2, 0, 3, 2)
    ),
    "filtered, several chunks of channels": patch_case(
        (1, 70, 4, 4, 64), (32, 70, 3, 3, 3), (2,) * 3, (1,) * 6
    ),
    "several blocks of rows": patch_case((1, 8, 14, 280, 70), (3, 8, 7, 7, 7), (4,) * 3, (3,) * 6),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, case: Case) -> None:
    for threads in (1, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@st.composite
def cases(draw_from: Any) -> Case:
    def three(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw_from(st.integers(low, high)) for _ in range(3))

    kernel, strides, before, after = three(1, 7), three(1, 5), three(0, 4), three(0, 4)
    fewest = (max(1, k - b - a) for k, b, a in zip(kernel, before, after, strict=True))
    extents = (low + more for low, more in zip(fewest, three(0, 20), strict=True))
    batch, channels, made = (draw_from(st.integers(1, n)) for n in (2, 3, 30))
    x = batch, channels, *extents
    return patch_case(x, (made, channels, *kernel), strides, (*before, *after))  # type: ignore[arg-type]


@settings(max_examples=60)
@given(cases())
def test_any_extents(case: Case) -> None:
    for isa in cpu_isas():
        assert_close(run(case, isa=isa), case)


@st.composite
def filtered_cases(draw_from: Any) -> Case:
    """Draw kernels of one and a half to two times the stride, and rows that fill vectors."""
    strides = tuple(draw_from(st.integers(2, 5)) for _ in range(3))
    kernel = tuple(draw_from(st.integers(s + (s + 1) // 2, 2 * s)) for s in strides)
    outputs = (*(draw_from(st.integers(1, 9)) for _ in range(2)), draw_from(st.integers(31, 32)))
    pads = tuple(draw_from(st.integers(0, 3)) for _ in range(6))
    extents = (
        max(1, (n - 1) * s + k - before - after)
        for n, s, k, before, after in zip(outputs, strides, kernel, pads[:3], pads[3:], strict=True)
    )
    channels, made = draw_from(st.integers(1, 3)), draw_from(st.integers(32, 38))
    return patch_case((1, channels, *extents), (made, channels, *kernel), strides, pads)


@settings(max_examples=30)
@given(filtered_cases())
def test_minimal_filtering(case: Case) -> None:
    for isa in cpu_isas():
        assert_close(run(case, isa=isa, threads=2), case)


@pytest.mark.parametrize(("width", "channels"), [(40, 14), (64, 33)], ids=["direct", "filtered"])
@pytest.mark.parametrize("isa", cpu_isas())
def test_no_voxel_reaches_beyond_the_patches_that_hold_it(
    isa: str, width: int, channels: int
) -> None:
    """One voxel that is not a number: nothing of other patches is read, not even times zero."""
    case = patch_case((1, 2, 8, 8, width), (channels, 2, 3, 3, 3), (2,) * 3, (1,) * 6)
    spoilt = case.inputs[0].copy()
    spoilt[0, 1, 3, 4, 5] = np.nan
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    reached = np.isnan(y).any(axis=-1)
    assert np.isnan(y[0, 1:3, 2, 2:4]).all()  # planes 2 to 4 and 4 to 6 are 1 and 2, and so on
    assert reached.sum() == 4


def test_empty_batch() -> None:
    case = CASES["its second"]
    empty = replace(case, inputs=(case.inputs[0][:0], *case.inputs[1:]))
    assert run(empty).shape == (0, 3, 5, 16, 66)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ((5, 3, 2, 2, 2), r"expected x .*; found .*\(5, 3, 2, 2, 2\)"),
        ((4, 2, 2, 2, 2), r"expected x .*; found .*\(4, 2, 2, 2, 2\)"),
        ((5, 2, 2, 2, 0), r"expected x .*; found .*\(5, 2, 2, 2, 0\)"),
        ((5, 2, 2, 2, 6), r"expected a padded volume that holds the kernel; found "),
    ],
)
def test_weights_that_do_not_fit(weight: tuple[int, ...], message: str) -> None:
    inputs = [draw(1, 2, 3, 4, 5), draw(*weight), draw(5)]
    attributes = TokenOpAttributes(strides=(2, 2, 2), pads=(0,) * 6)
    with pytest.raises(ValueError, match=message):
        run_token_op("PatchEmbed", inputs, attributes, draw(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"strides": (2, 2, 0)},
            r"strides must be three numbers from 1 to 1024; found \(2, 2, 0\)",
        ),
        ({"strides": (2, 2, 1 << 62)}, "strides must be three numbers from 1 to 1024"),
        ({"pads": (0, 0, 0, 0, 0, -1)}, r"pads must be six numbers from 0 to 1024; found .*-1\)"),
    ],
)
def test_attributes_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    attributes = replace(TokenOpAttributes(strides=(2, 2, 2), pads=(0,) * 6), **changes)
    inputs = [draw(1, 2, 3, 4, 5), draw(5, 2, 2, 2, 2), draw(5)]
    with pytest.raises(ValueError, match=message):
        run_token_op("PatchEmbed", inputs, attributes, draw(1))
