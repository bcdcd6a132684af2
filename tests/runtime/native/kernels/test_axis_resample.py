"""Comparison of the kernel with SciPy's sparse product: the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.native.single_functions import AxisResampleArgs, call_kernel


def resample_axis(
    source: np.ndarray,
    matrix: sparse.csr_array,
    axis: int,
    target: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    threads: int = 1,
) -> None:
    starts, columns = (part.astype(np.int64) for part in (matrix.indptr, matrix.indices))
    low, high = bounds or (None, None)
    args = AxisResampleArgs(
        source.dtype == np.float64,
        target.dtype == np.float64,
        int(np.prod(source.shape[:axis])),
        source.shape[axis],
        len(starts) - 1,
        int(np.prod(source.shape[axis + 1 :])),
        source.ctypes.data,
        target.ctypes.data,
        starts.ctypes.data,
        columns.ctypes.data,
        matrix.data.ctypes.data,
        None if low is None else low.ctypes.data,
        None if high is None else high.ctypes.data,
    )
    call_kernel("sgmf_axis_resample", args, threads)


def random_matrix(random: np.random.Generator, count: int, length: int) -> sparse.csr_array:
    """Every row has a weight; some have zeros between others."""
    dense = random.normal(size=(count, length)) * (random.random((count, length)) < 0.6)
    dense[np.arange(count), random.integers(0, length, count)] = 1
    return sparse.csr_array(dense)


def scipy_product(matrix: sparse.csr_array, source: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(source.astype(np.float64), axis, 0)
    product = matrix @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


@settings(max_examples=150)
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
    resample_axis(source, matrix, axis, target, threads=threads)
    assert np.array_equal(target, scipy_product(matrix, source, axis).astype(dtypes[1]))


@pytest.mark.parametrize("axis", range(3))
def test_results_are_clipped_where_bounds_are_given(axis: int) -> None:
    random = np.random.default_rng(axis)
    source = random.normal(size=(3, 4, 5))
    before = source.shape[:axis]
    low, high = -random.random(before), random.random(before)
    target = np.empty_like(source)
    identity = sparse.csr_array(np.eye(source.shape[axis]))
    resample_axis(source, identity, axis, target, (low.ravel(), high.ravel()), threads=2)
    spread = (*before, *[1] * (3 - axis))
    assert np.array_equal(target, np.clip(source, low.reshape(spread), high.reshape(spread)))


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
    places = np.array(starts, np.int64), np.array(columns, np.int64), np.ones(2)
    source, target = np.zeros(4), np.zeros(2)
    addresses = (array.ctypes.data for array in (source, target, *places))
    with pytest.raises(ValueError, match=match):
        call_kernel("sgmf_axis_resample", AxisResampleArgs(1, 1, 1, 4, 2, 1, *addresses), 1)


def test_missing_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="sgmf_axis_resample: a pointer is NULL"):
        call_kernel("sgmf_axis_resample", AxisResampleArgs(), 1)
