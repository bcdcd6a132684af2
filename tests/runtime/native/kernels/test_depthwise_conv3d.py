"""The depthwise convolution against its definition in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.graphs.token_op_cases import assert_close, depthwise_case, run

from segmaformer.runtime.bindings.op_library import cpu_isas

SHAPES = (
    (1, 1, 1, 1, 1),
    (2, 1, 2, 3, 16),
    (1, 2, 1, 17, 5),
    (2, 3, 3, 3, 23),
    (1, 9, 5, 21, 40),
    (1, 8, 40, 29, 144),  # several blocks along depth and height
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", cpu_isas())
def test_shapes(isa: str, shape: tuple[int, ...]) -> None:
    case = depthwise_case(*shape)
    for threads in (1, 3):
        assert_close(run(case, isa=isa, threads=threads), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_no_voxel_reaches_further_than_its_neighbours(isa: str) -> None:
    """One voxel that is not a number: rows follow each other in memory without a gap."""
    case = depthwise_case(2, 5, 6, 7, 17)
    spoilt = case.inputs[0].copy()
    spoilt[0, 4, 0, 6] = np.nan
    y = run(replace(case, inputs=(spoilt, *case.inputs[1:])), isa=isa)
    reached = np.isnan(y).any(axis=-1)
    assert reached[0, 3:5, 0:2, 5:7].all()
    assert reached.sum() == 8


def test_empty_batch() -> None:
    case = depthwise_case(1, 2, 2, 2, 3)
    empty = replace(case, inputs=(case.inputs[0][:0], *case.inputs[1:]))
    assert run(empty).shape == (0, 2, 2, 2, 3)


def test_weight_of_other_channels() -> None:
    case = depthwise_case(1, 2, 2, 2, 3)
    wrong = replace(case, inputs=(case.inputs[0], case.inputs[1][:2], case.inputs[2]))
    with pytest.raises(ValueError, match=r"expected x .*; found .*, \(2, 1, 3, 3, 3\), "):
        run(wrong)


def test_groups_that_are_not_the_channels() -> None:
    case = depthwise_case(1, 2, 2, 2, 3)
    wrong = replace(case, attributes=replace(case.attributes, group=1))
    with pytest.raises(ValueError, match="group must be the channels, 3; found 1"):
        run(wrong)
