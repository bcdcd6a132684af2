"""The dense convolution against its definition in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs.token_op_cases import (
    Case,
    assert_close,
    concat_conv_case,
    conv_case,
    draw,
    reference,
    run,
)

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, run_token_op

CASES = {
    "one voxel": conv_case((1, 1, 1, 1, 1), 1),
    "one plane": conv_case((1, 3, 1, 6, 8), 5),
    "even extents": conv_case((2, 5, 4, 6, 8), 9),
    "odd extents": conv_case((1, 4, 5, 7, 9), 8),
    "rows of several blocks": conv_case((1, 2, 2, 3, 203), 3),
    "many short rows": conv_case((1, 3, 8, 12, 2), 4),
    "more channels than a chunk": conv_case((1, 131, 3, 4, 6), 17),
    "two parts": concat_conv_case((2, 5, 4, 5, 9), 3, 8),
    "two parts in one chunk and the next": concat_conv_case((1, 127, 2, 3, 5), 4, 6),
    "two parts, one plane of taps": concat_conv_case((1, 2, 2, 5, 9), 130, 5, depth_taps=1),
    "tiles of four": conv_case((2, 5, 6, 24, 32), 9),
    "tiles of four, ragged": conv_case((1, 4, 5, 23, 37), 6),
    "tiles of four, rows of several blocks": conv_case((1, 3, 2, 9, 410), 3),
    "tiles of four, more channels than a chunk": conv_case((1, 70, 4, 30, 33), 38),
    "tiles of four, two parts": concat_conv_case((1, 61, 4, 25, 30), 7, 5),
    "tiles of four, one plane of taps": conv_case((1, 5, 7, 27, 30), 9, depth_taps=1),
    "stride": conv_case((2, 5, 6, 24, 32), 9, strides=(2, 2, 2)),
    "stride, ragged": conv_case((1, 4, 5, 23, 37), 6, strides=(2, 2, 2)),
    "stride, one voxel": conv_case((1, 3, 1, 1, 1), 2, strides=(2, 2, 2)),
    "stride, rows of several blocks": conv_case((1, 2, 3, 5, 411), 3, strides=(2, 2, 2)),
    "stride in the plane": conv_case((2, 5, 5, 14, 33), 9, strides=(1, 2, 2)),
    "stride in the plane, more channels than a chunk": conv_case(
        (1, 70, 3, 9, 20), 38, strides=(1, 2, 2)
    ),
    "stride, one plane of taps": conv_case((2, 5, 3, 27, 30), 9, 1, strides=(1, 2, 2)),
    "one plane of taps": conv_case((2, 5, 3, 7, 30), 9, depth_taps=1),
    "one tap": conv_case((2, 5, 6, 24, 32), 9, 1, plane_taps=1),
    "one tap, a few voxels": conv_case((1, 4, 1, 3, 5), 6, 1, plane_taps=1),
    "one tap, several tasks": conv_case((1, 33, 10, 43, 47), 17, 1, plane_taps=1),
    "one tap, two parts": concat_conv_case((2, 5, 4, 5, 9), 3, 8, 1, plane_taps=1),
    "one plane of taps, many channels": conv_case((1, 150, 2, 4, 4), 3, depth_taps=1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, case: Case) -> None:
    for threads in (1, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@st.composite
def cases(draw_from: Any) -> Case:
    extents = (draw_from(st.integers(1, most)) for most in (6, 25, 60))
    batch, channels, outputs = (draw_from(st.integers(1, most)) for most in (2, 6, 19))
    depth_taps, *strides = draw_from(
        st.sampled_from([(1, 1, 1, 1), (1, 1, 2, 2), (3, 1, 1, 1), (3, 1, 2, 2), (3, 2, 2, 2)])
    )
    return conv_case((batch, channels, *extents), outputs, depth_taps, (*strides,))


@settings(max_examples=60)
@given(cases())
def test_any_extents(case: Case) -> None:
    for isa in cpu_isas():
        assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize("depth_taps", [1, 3])
@pytest.mark.parametrize(("extents", "most"), [((8, 8, 8), 1.0), ((8, 16, 16), 2.5)])
def test_about_as_accurate_as_a_direct_sum(
    extents: tuple[int, ...], most: float, depth_taps: int
) -> None:
    """Over tiles of two the transform's roundings are below those of a direct float32 sum.

    Over tiles of four they are up to twice as large, which is half of those of PyTorch's kernels.
    """
    case = conv_case((1, 64, *extents), 8, depth_taps)
    exact = reference(case)
    x, weight, bias = case.inputs
    pads = [(pad, pad) for pad in (0, 0, *case.attributes.pads[:3])]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), weight.shape[2:], (2, 3, 4))
    direct = np.zeros_like(exact, np.float32)
    direct += bias.reshape(1, -1, 1, 1, 1)
    for c, i, j, k in np.ndindex(weight.shape[1:]):
        direct += windows[:, c, None, ..., i, j, k] * weight[:, c, i, j, k].reshape(1, -1, 1, 1, 1)
    for isa in cpu_isas():
        assert np.std(run(case, isa=isa) - exact) <= most * np.std(direct - exact)


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("extents", [(9, 13, 14), (8, 24, 32)], ids=["tiles of two", "of four"])
def test_a_flat_volume_is_flat_inside(extents: tuple[int, ...], isa: str) -> None:
    """All inputs alike: every inner output is the sum of the taps, and the same in all tiles."""
    case = conv_case((1, 4, *extents), 5)
    flat = replace(case, inputs=(np.full_like(case.inputs[0], 1.5), *case.inputs[1:]))
    y = run(flat, isa=isa)
    inner = y[..., 1:-1, 1:-1, 1:-1]
    sums = 1.5 * flat.inputs[1].sum((1, 2, 3, 4), dtype=np.float64) + flat.inputs[2]
    assert np.abs(inner - sums.reshape(1, -1, 1, 1, 1)).max() < 1e-5
    whole_tiles = y[..., 2:-3, 4:-5, 4:-5]
    for d, h, w in np.ndindex(2, 4, 4):
        np.testing.assert_array_equal(np.ptp(whole_tiles[..., d::2, h::4, w::4], (2, 3, 4)), 0)


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_near(isa: str, value: float) -> None:
    """Spoil one voxel: outputs whose taps hold it are no numbers, others only within its tiles."""
    case = conv_case((1, 2, 12, 12, 40), 3)
    spoilt = case.inputs[0].copy()
    spoilt[0, 1, 5, 6, 20] = value
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    assert not np.isfinite(y[..., 4:7, 5:8, 19:22]).any()
    y[..., 3:8, 4:9, 16:24] = 0
    assert np.isfinite(y).all()


@pytest.mark.parametrize("isa", cpu_isas())
def test_two_parts_are_their_concatenation(isa: str) -> None:
    apart = concat_conv_case((2, 5, 4, 5, 9), 3, 8)
    x, weight, bias, rest = apart.inputs
    whole = Case("Conv3d", (np.concatenate([x, rest], 1), weight, bias), apart.attributes)
    np.testing.assert_array_equal(run(apart, isa=isa), run(whole, isa=isa))


def test_empty_batch() -> None:
    case = CASES["even extents"]
    empty = replace(case, inputs=(case.inputs[0][:0], *case.inputs[1:]))
    assert run(empty).shape == (0, 9, 4, 6, 8)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ((5, 3, 3, 3, 3), r"expected x .*; found .*\(5, 3, 3, 3, 3\)"),
        ((4, 2, 3, 3, 3), r"expected x .*; found .*\(4, 2, 3, 3, 3\)"),
        ((5, 2, 2, 3, 3), r"expected x .*; found .*\(5, 2, 2, 3, 3\)"),
        ((5, 2, 3, 3, 1), r"expected x .*; found .*\(5, 2, 3, 3, 1\)"),
        ((5, 2, 1, 3, 3), r"pads must be one on each side"),
    ],
)
def test_weights_that_do_not_fit(weight: tuple[int, ...], message: str) -> None:
    inputs = [draw(1, 2, 3, 4, 5), draw(*weight), draw(5)]
    with pytest.raises(ValueError, match=f"Conv3d: {message}"):
        run_token_op("Conv3d", inputs, TokenOpAttributes(pads=(1,) * 6), draw(1, 5, 3, 4, 5))


@pytest.mark.parametrize(
    ("taps", "strides"),
    [
        ((3, 3), (2, 1, 1)),
        ((3, 3), (1, 1, 2)),
        ((3, 3), (3, 3, 3)),
        ((1, 3), (2, 2, 2)),
        ((1, 1), (1, 2, 2)),
    ],
)
def test_strides_that_no_kernel_has(taps: tuple[int, int], strides: tuple[int, int, int]) -> None:
    case = conv_case((1, 2, 4, 6, 6), 3, taps[0], strides, plane_taps=taps[1])
    with pytest.raises(ValueError, match=rf"Conv3d: strides must be .*; found \({strides[0]}, "):
        run(case)


@pytest.mark.parametrize("rest", [(1, 2, 3, 4, 6), (2, 2, 3, 4, 5), (1, 3, 3, 4, 5), (1, 2, 3, 4)])
def test_parts_that_do_not_fit(rest: tuple[int, ...]) -> None:
    inputs = [draw(1, 2, 3, 4, 5), draw(5, 4, 3, 3, 3), draw(5), draw(*rest)]
    attributes = TokenOpAttributes(pads=(1,) * 6)
    with pytest.raises(ValueError, match=r"ConcatConv3d: expected x .* and rest"):
        run_token_op("ConcatConv3d", inputs, attributes, draw(1, 5, 3, 4, 5))
