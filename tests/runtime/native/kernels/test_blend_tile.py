"""Weighted sums of tiles, and their means, bit for bit as NumPy has them in float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.line_kernels import blend_tile, divide_lines
from support.native.single_functions import (
    BlendTileArgs,
    DivideLinesArgs,
    call_kernel,
)

from segmaformer.runtime.bindings.logit_lines import LogitLines

shapes = st.tuples(st.integers(1, 4), *[st.integers(1, 9)] * 3)
seeds = st.integers(0, 1 << 20)


def scattered(values: np.ndarray, random: np.random.Generator) -> LogitLines:
    """Put (K, d, h, w) in lines, in a random order and with gaps between channels."""
    channels, depth, height, width = values.shape
    order = random.permutation(depth * height)
    memory = np.full((len(order), channels, width + 3), np.nan, np.float32)[..., :width]
    memory[order] = np.moveaxis(values, 0, 2).reshape(len(order), channels, width)
    return LogitLines(memory, order.reshape(depth, height))


def gathered(lines: LogitLines) -> np.ndarray:
    """Return (K, d, h, w), after a check that the gaps were left alone."""
    assert lines.memory.base is not None
    assert np.isnan(lines.memory.base[..., lines.memory.shape[2] :]).all()
    return np.moveaxis(lines.memory[lines.places], 2, 0)


def with_strides(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the same numbers in memory of another order, with contiguous rows."""
    order = random.permutation(values.ndim - 1)
    stored = np.ascontiguousarray(values.transpose(*order, values.ndim - 1))
    return stored.transpose(*np.argsort(order), values.ndim - 1)


def numbers(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(0, 10.0 ** random.integers(-3, 4), shape).astype(np.float32)


@settings(max_examples=60)
@given(shape=shapes, threads=st.integers(1, 3), seed=seeds)
def test_the_product_is_rounded_before_it_is_added(
    shape: tuple[int, ...], threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    before, logits = numbers(random, *shape), numbers(random, *shape)
    weights = numbers(random, *shape[1:])
    lines = scattered(before, random)
    blend_tile(lines, with_strides(logits, random), with_strides(weights, random), threads=threads)
    np.testing.assert_array_equal(gathered(lines), before + logits * weights)


@settings(max_examples=40)
@given(shape=shapes, threads=st.integers(1, 3), seed=seeds)
def test_every_channel_is_divided_by_the_same_weights(
    shape: tuple[int, ...], threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    before = numbers(random, *shape)
    divisors = np.abs(numbers(random, *shape[1:])) + np.float32(1e-6)
    lines = scattered(before, random)
    divide_lines(lines, divisors, threads=threads)
    np.testing.assert_array_equal(gathered(lines), before / divisors)


@settings(max_examples=40)
@given(
    shape=shapes,
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    threads=st.integers(1, 3),
    seed=seeds,
)
def test_one_logit_that_is_no_number_is_an_error(
    shape: tuple[int, ...], value: float, threads: int, seed: int
) -> None:
    """Wherever it is, and even where its weight is zero."""
    random = np.random.default_rng(seed)
    logits = numbers(random, *shape)
    logits[tuple(random.integers(0, shape))] = value
    lines = scattered(np.zeros(shape, np.float32), random)
    with pytest.raises(ValueError, match="NaN or infinite"):
        blend_tile(lines, logits, np.zeros(shape[1:], np.float32), threads=threads)


def test_largest_logits_are_numbers() -> None:
    largest = np.full((1, 2, 2, 9), np.finfo(np.float32).max)
    lines = scattered(np.zeros_like(largest), np.random.default_rng(0))
    blend_tile(lines, -largest, np.ones((2, 2, 9), np.float32), threads=1)
    np.testing.assert_array_equal(gathered(lines), -largest)


@pytest.mark.parametrize(
    ("name", "args"),
    [("sgmf_blend_tile", BlendTileArgs()), ("sgmf_divide_lines", DivideLinesArgs())],
)
def test_absent_memory_is_refused(name: str, args: BlendTileArgs | DivideLinesArgs) -> None:
    with pytest.raises(ValueError, match="a pointer is NULL"):
        call_kernel(name, args, 1)
