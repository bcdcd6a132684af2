"""The causal convolution with SiLU against its definition in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.graphs.token_op_cases import assert_close, causal_case, run

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes

SHAPES = ((1, 1, 1), (2, 2, 16), (2, 3, 5), (3, 17, 23), (2, 1000, 72))


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 8, 11])
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes_and_taps(isa: str, taps: int) -> None:
    for shape in SHAPES:
        for before in {0, taps // 2, taps - 1}:
            case = causal_case(shape, taps, before)
            assert_close(run(case, isa=isa, threads=2), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_nothing_comes_from_the_future_or_another_sequence(isa: str) -> None:
    case = causal_case((3, 40, 17), 4)
    spoilt = case.inputs[0].copy()
    spoilt[1, 38] = np.nan
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    assert [tuple(at) for at in np.argwhere(np.isnan(y).all(axis=-1))] == [(1, 38), (1, 39)]
    assert np.isnan(y).sum() == 2 * 17


@pytest.mark.parametrize("pads", [(0, 0), (4, 0), (-1, 4), (4, -1)])
def test_pads_that_change_the_length(pads: tuple[int, int]) -> None:
    case = causal_case((1, 8, 3), 4)
    wrong = replace(case, attributes=TokenOpAttributes(group=3, pads=pads))
    with pytest.raises(ValueError, match=r"pads must add up to K - 1, 3; found \(-?\d, -?\d\)"):
        run(wrong)


def test_weight_of_other_channels() -> None:
    case = causal_case((1, 8, 3), 4)
    wrong = replace(case, inputs=(case.inputs[0], case.inputs[1][:2].copy(), case.inputs[2]))
    with pytest.raises(ValueError, match=r"weight \(C, 1, K\) and bias \(C\); found .*\(2, 1, 4\)"):
        run(wrong)
