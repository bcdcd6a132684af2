"""The kernel against SciPy's sparse product: the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from segmaformer.runtime.axis_kernel import AxisOperator, resample_axis
from segmaformer.runtime.op_library import call_kernel
from segmaformer.runtime.resampling import axis_weights


def random_matrix(random: np.random.Generator, count: int, length: int) -> sparse.csr_array:
    """Every row has a weight; some have zeros between others."""
    dense = random.normal(size=(count, length)) * (random.random((count, length)) < 0.6)
    dense[np.arange(count), random.integers(0, length, count)] = 1
    return sparse.csr_array(dense)


def scipy_product(matrix: sparse.csr_array, source: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(source.astype(np.float64), axis, 0)
    product = matrix @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    count=st.integers(1, 12),
    axis=st.integers(0, 2),
    dtypes=st.tuples(*[st.sampled_from([np.float32, np.float64])] * 2),
    threads=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@example(  # four lines whose places span as many elements as sixteen neighbours
    shape=(2, 2, 5), count=1, axis=2, dtypes=(np.float32, np.float64), threads=1, seed=0
)
def test_equals_scipy_bit_for_bit(shape, count, axis, dtypes, threads, seed) -> None:
    random = np.random.default_rng(seed)
    source = random.normal(0, 100, shape).astype(dtypes[0])
    matrix = random_matrix(random, count, shape[axis])
    target = np.full((*shape[:axis], count, *shape[axis + 1 :]), np.nan, dtypes[1])
    resample_axis(source, AxisOperator.from_matrix(matrix), axis, target, threads=threads)
    assert np.array_equal(target, scipy_product(matrix, source, axis).astype(dtypes[1]))


@pytest.mark.parametrize("axis", range(3))
def test_results_are_clipped_where_bounds_are_given(axis: int) -> None:
    random = np.random.default_rng(axis)
    source = random.normal(size=(3, 4, 5))
    operator = AxisOperator.identity(source.shape[axis])
    before = source.shape[:axis]
    low, high = -random.random(before), random.random(before)
    target = np.empty_like(source)
    resample_axis(source, operator, axis, target, bounds=(low.ravel(), high.ravel()), threads=2)
    spread = (*before, *[1] * (3 - axis))
    assert np.array_equal(target, np.clip(source, low.reshape(spread), high.reshape(spread)))


@pytest.mark.parametrize(("length", "new_length"), [(30, 47), (47, 30), (5, 40), (40, 1)])
def test_parts_from_places_used_in_turn(length: int, new_length: int) -> None:
    """Results that come as soon as their voxels are there, from no more than are reached."""
    matrix = axis_weights(length, new_length, 2)
    operator = AxisOperator.from_matrix(matrix)
    source = np.random.default_rng(0).normal(size=(length, 6))
    ring = np.full((operator.reach, 6), np.nan)
    target = np.empty((new_length, 6))
    done = 0
    for index, voxel in enumerate(source):
        ring[index % len(ring)] = voxel
        ready = int((operator.needed <= index + 1).sum())
        if ready > done:
            part = operator.part(done, ready, len(ring))
            resample_axis(ring, part, 0, target[done:ready], threads=1)
            done = ready
    assert np.array_equal(target, matrix @ source)


@pytest.mark.parametrize(("order", "overshoots"), [(0, False), (1, False), (3, True)])
def test_which_splines_leave_the_range_of_their_source(order: int, overshoots: bool) -> None:
    assert AxisOperator.from_matrix(axis_weights(9, 14, order)).overshoots is overshoots


IDENTITY = AxisOperator.identity(4)
SOURCE = np.zeros((2, 4, 3))


@pytest.mark.parametrize(
    ("source", "axis", "target", "match"),
    [
        (SOURCE, 2, SOURCE.copy(), r"\(4, 4\) along axis 2 does not bring \(2, 4, 3\)"),
        (SOURCE, 1, np.zeros((2, 5, 3)), r"to \(2, 5, 3\)"),
        (SOURCE, 1, np.zeros((4, 2, 3)).transpose(1, 0, 2), "C order"),
        (SOURCE.astype(np.int64), 1, SOURCE.copy(), "not float32 or float64"),
    ],
)
def test_arrays_that_do_not_suit_are_refused(source, axis, target, match) -> None:
    with pytest.raises(ValueError, match=match):
        resample_axis(source, IDENTITY, axis, target, threads=1)


def test_bounds_of_another_length_are_refused() -> None:
    bounds = (np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"bounds are float64 \(3,\); expected float64 \(2,\)"):
        resample_axis(SOURCE, IDENTITY, 1, SOURCE.copy(), bounds=bounds, threads=1)


@pytest.mark.parametrize(
    ("columns", "starts", "match"),
    [
        ([0, 4], [0, 1, 2], "a column lies outside the source"),
        ([-1, 0], [0, 1, 2], "a column lies outside the source"),
        ([0, 1], [0, 2, 1], "starts must not decrease"),
        ([0, 1], [1, 1, 2], "starts must begin with 0"),
    ],
)
def test_the_library_checks_the_operator(columns, starts, match) -> None:
    operator = AxisOperator(4, np.array(starts), np.array(columns), np.ones(2))
    with pytest.raises(ValueError, match=match):
        resample_axis(np.zeros(4), operator, 0, np.zeros(2), threads=1)


def test_missing_arguments_are_refused() -> None:
    from segmaformer.runtime.axis_kernel import _AxisResampleArgs

    with pytest.raises(ValueError, match="sgmf_axis_resample: a pointer is NULL"):
        call_kernel("sgmf_axis_resample", _AxisResampleArgs(), 1)
