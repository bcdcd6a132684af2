"""Instance normalisation and its activations against their definition in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.graphs.token_op_cases import Case, assert_close, draw, norm_case, reference, run

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes

OPS = ("InstanceNormGelu", "InstanceNormRelu", "InstanceNormTokens")
SHAPES = (
    (1, 1, 1, 1, 1),
    (2, 1, 2, 3, 16),
    (2, 3, 3, 3, 23),
    (1, 4, 5, 13, 72),
    (2, 20, 20, 20, 100),  # several parts for each batch entry
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, op: str, shape: tuple[int, ...]) -> None:
    case = norm_case(op, *shape, alpha=0.25)
    for threads in (1, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_the_number_of_threads_changes_nothing(isa: str) -> None:
    case = norm_case("InstanceNormGelu", 1, 20, 20, 20, 100)
    np.testing.assert_array_equal(run(case, isa=isa), run(case, isa=isa, threads=5))


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("first", ["ordinary", "outlier"])
def test_a_mean_far_from_zero_costs_no_digits(isa: str, first: str) -> None:
    """Means of 1,000 deviations. Squares summed as such would leave nothing of the variance."""
    x = draw(1, 16, 16, 17, 19)
    x += 1000 * draw(19, seed=1)
    if first == "outlier":
        x[:, 0, 0, 0] += 30
    case = Case("InstanceNormRelu", (x, draw(19), draw(19, seed=2)), TokenOpAttributes())
    assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_gelu_over_its_whole_range(isa: str) -> None:
    """The fit is good to 1e-7 of max(|x|, 1); normalising x and summing round as often again."""
    x = np.linspace(-1, 1, 40_001, dtype=np.float32).reshape(1, 1, 1, -1, 1)
    scale, bias = np.array([10], np.float32), np.zeros(1, np.float32)
    case = Case("InstanceNormGelu", (x, scale, bias), TokenOpAttributes(epsilon=0.0))
    expected = reference(case)
    assert expected.max() > 17
    error = np.abs(run(case, isa=isa) - expected) / np.maximum(np.abs(expected), 1)
    assert error.max() < 4e-7


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("isa", cpu_isas())
def test_nan_stays_in_its_channel(isa: str, op: str) -> None:
    case = norm_case(op, 2, 3, 3, 3, 23)
    spoilt = case.inputs[0].copy()
    spoilt[1, 0, 2, 1, 20] = np.nan
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    assert np.isnan(y[1, ..., 20]).all()
    assert np.isnan(y).sum() == 27


def test_epsilon() -> None:
    case = norm_case("InstanceNormRelu", 1, 3, 3, 3, 5)
    case = replace(case, attributes=TokenOpAttributes(epsilon=0.5))
    assert_close(run(case), case)


@pytest.mark.parametrize("op", OPS)
def test_scale_of_other_channels(op: str) -> None:
    case = norm_case(op, 1, 3, 3, 3, 5)
    wrong = replace(case, inputs=(case.inputs[0], case.inputs[1][:4], case.inputs[2]))
    with pytest.raises(ValueError, match=rf"{op}: expected x .*; found .*, \(4\), \(5\)"):
        run(wrong)
