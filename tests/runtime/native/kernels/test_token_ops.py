"""Every token op at random shapes against its definition, and its symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs.token_op_cases import (
    Case,
    assert_close,
    causal_case,
    concat_conv_case,
    conv_case,
    conv_transpose_case,
    depthwise_case,
    folded_norm_case,
    gelu_linear_add_case,
    linear_add_case,
    linear_upsample_add_case,
    norm_case,
    norm_linear_case,
    patch_case,
    relu_linear_case,
    rotary_case,
    run,
    upsample_add_case,
    upsample_case,
    upsample_nearest_case,
    volume_norm_add_case,
    volume_norm_case,
)

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import INPUT_COUNTS

brief = settings(max_examples=20)
every_op = pytest.mark.parametrize("op", INPUT_COUNTS)
isas = st.sampled_from(cpu_isas())

batches = st.integers(1, 3)
extents = st.tuples(*[st.integers(1, 7)] * 3)
channels = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 48, 65]))
token_counts = st.one_of(st.tuples(st.integers(1, 230)), extents)
slopes = st.sampled_from([0.0, 0.01, 0.5, 1.0])
factors = st.tuples(*[st.integers(1, 4)] * 3)

OF_CHANNELS = {"DepthwiseConv3d": -1, "CausalConv1dSilu": -1, "InstanceNorm": 1} | dict.fromkeys(
    ("InstanceNormGelu", "InstanceNormRelu", "InstanceNormTokens"), -1
)
"""Ops that treat channels alike and alone, and the axis of these."""

BATCHED = {
    "UpsampleAdd": {0, 1},
    "ConcatConv3d": {0, 3},
    "InstanceNormAdd": {0, 3},
    "LinearAdd": {0, 3},
    "InstanceNormGeluLinearAdd": {0, 5},
    "LinearUpsampleAdd": {0, 3, 4, 5},
}
"""Inputs with a batch, of ops where those are not the first alone."""


@st.composite
def token_cases(draw: st.DrawFn, op: str) -> Case:
    batch, volume, width = draw(batches), draw(extents), draw(channels)
    if op == "Conv3d":
        taps, plane_taps = draw(st.sampled_from([(1, 1), (1, 3), (3, 3)]))
        inputs = (batch, draw(st.integers(1, 9)), *volume)
        return conv_case(inputs, width, taps, plane_taps=plane_taps)
    if op == "ConcatConv3d":
        taps, parts = draw(st.sampled_from([1, 3])), draw(st.tuples(*[st.integers(1, 9)] * 2))
        return concat_conv_case((batch, parts[0], *volume), parts[1], width, taps)
    if op == "ConvTranspose3d":
        taps = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)))
        return conv_transpose_case((batch, draw(st.integers(1, 9)), *volume), width, taps)
    if op == "DepthwiseConv3d":
        return depthwise_case(batch, *volume, width)
    if op in VOLUME_NORM_CASES:
        return VOLUME_NORM_CASES[op](batch, width, *volume, alpha=draw(slopes))
    if op.startswith("InstanceNorm") and "Linear" not in op:
        return norm_case(op, batch, *volume, width, alpha=draw(slopes))
    if op == "CausalConv1dSilu":
        taps = draw(st.integers(1, 4))
        before = draw(st.sampled_from([taps - 1, 0]))  # from the past, or backwards
        return causal_case((batch, draw(st.integers(1, 40)), width), taps, before)
    if op == "RotaryNorm":
        return rotary_case(batch, *volume, half=draw(st.integers(1, 20)))
    if op == "UpsampleAdd":
        return upsample_add_case((batch, *draw(small_extents), width), draw(factors))
    if op in UPSAMPLE_CASES:
        low = (batch, draw(st.integers(1, 5)), *draw(small_extents))
        return UPSAMPLE_CASES[op](low, draw(factors))
    if op == "LinearUpsampleAdd":
        low = (batch, *draw(small_extents))
        return linear_upsample_add_case(low, draw(factors), width, draw(channels))
    if op in LINEAR_CASES:
        counts = extents if op.startswith("InstanceNorm") else token_counts
        return LINEAR_CASES[op]((batch, *draw(counts)), width, draw(channels))
    kernel, steps = draw(st.tuples(*[st.integers(1, 4)] * 3)), draw(factors)
    pads = draw(st.tuples(*[st.integers(0, 2)] * 6))
    room = tuple(n + k for n, k in zip(volume, kernel, strict=True))
    inputs = draw(st.integers(1, 3))
    return patch_case((batch, inputs, *room), (width, inputs, *kernel), steps, pads)


UPSAMPLE_CASES = {"Upsample": upsample_case, "UpsampleNearest": upsample_nearest_case}

VOLUME_NORM_CASES = {"InstanceNorm": volume_norm_case, "InstanceNormAdd": volume_norm_add_case}

LINEAR_CASES = {
    "NormLinear": norm_linear_case,
    "LinearAdd": linear_add_case,
    "FoldedNorm": folded_norm_case,
    "InstanceNormGeluLinearAdd": gelu_linear_add_case,
    "InstanceNormReluLinear": relu_linear_case,
}

small_extents = st.tuples(*[st.integers(1, 4)] * 3)


def sample(case: Case, entries: list[int]) -> Case:
    """Take some entries of the batch, in an order."""
    batched = BATCHED.get(case.op, {0})
    inputs = enumerate(case.inputs)
    return replace(case, inputs=tuple(a[entries] if i in batched else a for i, a in inputs))


@every_op
@brief
@given(data=st.data(), isa=isas, threads=st.integers(1, 3))
def test_any_shape_is_the_definition(op: str, data: st.DataObject, isa: str, threads: int) -> None:
    case = data.draw(token_cases(op))
    found = run(case, isa=isa, threads=threads)
    assert_close(found, case)
    np.testing.assert_array_equal(found, run(case, isa=isa))


@every_op
@brief
@given(data=st.data(), isa=isas)
def test_entries_of_a_batch_do_not_see_each_other(op: str, data: st.DataObject, isa: str) -> None:
    case = data.draw(token_cases(op))
    count = len(case.inputs[0])
    entries = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=4))
    found = run(sample(case, entries), isa=isa)
    np.testing.assert_array_equal(found, run(case, isa=isa)[entries])


@pytest.mark.parametrize("op", OF_CHANNELS)
@brief
@given(data=st.data(), isa=isas)
def test_channels_do_not_see_each_other(op: str, data: st.DataObject, isa: str) -> None:
    """Their order is that of the weights; which lane of a vector one has changes roundings only."""
    case = data.draw(token_cases(op))
    x, *weights = case.inputs
    order = data.draw(st.permutations(range(len(weights[0]))))
    axis = OF_CHANNELS[op]
    turned = np.ascontiguousarray(x.take(order, axis)), *(weight[order] for weight in weights)
    found = run(replace(case, inputs=turned), isa=isa)
    expected = run(case, isa=isa).take(order, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@every_op
@brief
@given(data=st.data())
def test_instruction_sets_agree(op: str, data: st.DataObject) -> None:
    case = data.draw(token_cases(op))
    first, *others = (run(case, isa=isa) for isa in cpu_isas())
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-4)
