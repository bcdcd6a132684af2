"""Trilinear upsampling against its definition in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.graphs.token_op_cases import (
    Case,
    assert_close,
    draw,
    run,
    upsample_add_case,
    upsample_case,
    upsample_nearest_case,
)

from segmaformer.runtime.bindings.op_library import cpu_isas
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, run_token_op

SCALES = ((1, 1, 1), (2, 2, 2), (4, 4, 4), (1, 3, 5), (2, 1, 16), (3, 2, 20))
EXTENTS = ((1, 1, 1), (2, 3, 1), (3, 2, 5), (2, 2, 17))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("isa", cpu_isas())
def test_channel_major(isa: str, scales: tuple[int, ...]) -> None:
    for extents in EXTENTS:
        case = upsample_case((2, 3, *extents), scales)
        assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_nearest_repeats_voxels(scales: tuple[int, ...]) -> None:
    for extents in EXTENTS:
        case = upsample_nearest_case((2, 3, *extents), scales)
        assert_close(run(case, threads=3), case)


@pytest.mark.parametrize("channels", [1, 16, 21])
@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("isa", cpu_isas())
def test_token_major_and_added(isa: str, scales: tuple[int, ...], channels: int) -> None:
    for extents in EXTENTS:
        case = upsample_add_case((2, *extents, channels), scales)
        assert_close(run(case, isa=isa), case)


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize(
    "case",
    [upsample_case((1, 2, 20, 20, 20), (4, 4, 4)), upsample_add_case((1, 9, 9, 9, 72), (2, 2, 2))],
    ids=lambda case: case.op,
)
def test_several_tasks(isa: str, case: Case) -> None:
    assert_close(run(case, isa=isa, threads=3), case)


@pytest.mark.parametrize("isa", cpu_isas())
def test_a_constant_stays_exactly_that(isa: str) -> None:
    low = np.full((1, 2, 3, 4, 5), 0.1, np.float32)
    case = Case("Upsample", (low,), TokenOpAttributes(scales=(3, 3, 3)))
    assert (run(case, isa=isa) == low[0, 0, 0, 0, 0]).all()


@pytest.mark.parametrize("scales", [(0, 1, 1), (1.5, 2, 2), (-1, 1, 1), (2e9, 1, 1)])
def test_scales_that_are_no_whole_numbers(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Upsample: scales must be three whole numbers from 1"):
        run_token_op("Upsample", [draw(1, 1, 2, 2, 2)], TokenOpAttributes(scales=scales), draw(1))


def test_an_addend_of_another_shape() -> None:
    case = upsample_add_case((1, 2, 2, 2, 3), (2, 2, 2))
    wrong = replace(case, inputs=(case.inputs[0], case.inputs[1][:, 1:].copy()))
    with pytest.raises(ValueError, match=r"the scales times as large; found .*\(1, 3, 4, 4, 3\)"):
        run(wrong)
