"""Channel-major instance normalisation against its definition in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.graphs.token_op_cases import Case, assert_close, draw, run, volume_norm_case

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes

SHAPES = (
    (1, 1, 1, 1, 1),
    (2, 3, 7),
    (2, 5, 3, 11),
    (2, 3, 4, 5, 13),
    (1, 2, 79, 80, 83),  # several parts for each channel
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("alpha", [1.0, 0.01, 0.0])
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, alpha: float, shape: tuple[int, ...]) -> None:
    case = volume_norm_case(*shape, alpha=alpha)
    for threads in (1, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_the_number_of_threads_changes_nothing(isa: str) -> None:
    """Also where channels are so few that their parts are done side by side."""
    case = volume_norm_case(1, 3, 79, 80, 83)
    np.testing.assert_array_equal(run(case, isa=isa), run(case, isa=isa, threads=5))


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_flat_background_costs_no_digits(isa: str, share: float) -> None:
    """All but a block of the volume has one value, far from zero, as outside a body."""
    x = np.full((1, 3, 96, 96, 96), 0.7, np.float32)
    x *= np.float32([1, -30, 1e3])[:, np.newaxis, np.newaxis, np.newaxis]
    side = round(96 * share ** (1 / 3))
    x[:, :, :side, :side, :side] += draw(1, 3, side, side, side)
    case = Case("InstanceNorm", (x, np.ones(3, np.float32), draw(3)), TokenOpAttributes())
    assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_a_flat_channel_is_its_bias(isa: str) -> None:
    x = np.full((1, 1, 40, 40, 41), 0.1, np.float32)
    case = Case("InstanceNorm", (x, draw(1), draw(1, seed=1)), TokenOpAttributes())
    assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_nan_stays_in_its_channel(isa: str) -> None:
    case = volume_norm_case(2, 5, 3, 3, 23, alpha=0.01)
    spoilt = case.inputs[0].copy()
    spoilt[1, 3, 2, 1, 20] = np.nan
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    assert np.isnan(y[1, 3]).all()
    assert np.isnan(y).sum() == 9 * 23


def test_epsilon() -> None:
    case = volume_norm_case(1, 5, 3, 3, 3)
    case = replace(case, attributes=TokenOpAttributes(epsilon=0.5))
    assert_close(run(case), case)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, np.nan])
@pytest.mark.parametrize("op", ["InstanceNorm", "InstanceNormTokens"])
def test_slopes_that_it_cannot_have(op: str, alpha: float) -> None:
    case = replace(volume_norm_case(1, 3, 3, 3, 3, alpha=alpha), op=op)
    with pytest.raises(ValueError, match=f"{op}: alpha must lie between 0 and 1; found"):
        run(case)


def test_scale_of_other_channels() -> None:
    case = volume_norm_case(1, 5, 3, 3, 3)
    wrong = replace(case, inputs=(case.inputs[0], case.inputs[1][:4], case.inputs[2]))
    with pytest.raises(ValueError, match=r"InstanceNorm: expected x .*; found .*, \(4\), \(5\)"):
        run(wrong)
