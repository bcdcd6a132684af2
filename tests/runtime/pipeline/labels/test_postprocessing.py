"""Postprocessing beside connected components of SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segmaformer.runtime.pipeline.postprocessing import postprocess, postprocessing_bytes
from segmaformer.runtime.spec import KeepLargest

STEPS = st.lists(
    st.builds(
        KeepLargest,
        st.lists(st.integers(1, 3), min_size=1, unique=True).map(tuple),
        components=st.integers(1, 3),
        connectivity=st.integers(1, 3),
        equals_stay=st.booleans(),
    ),
    max_size=3,
)
VIEWS = (
    lambda labels: labels,
    lambda labels: labels.transpose(2, 0, 1),
    lambda labels: labels[::-1, ::2],
)


def expected_of(labels: np.ndarray, steps: list[KeepLargest]) -> np.ndarray:
    labels = labels.copy()
    for step in steps:
        mask = np.isin(labels, step.keep_largest)
        shape = ndimage.generate_binary_structure(3, step.connectivity)
        found, count = ndimage.label(mask, shape)
        places = [np.flatnonzero(found == number + 1) for number in range(count)]
        places.sort(key=lambda each: (each.size, each[0]))
        kept = places[-step.components :]
        if step.equals_stay and kept:
            kept = [each for each in places if each.size >= kept[0].size]
        labels[
            mask & ~np.isin(np.arange(mask.size).reshape(mask.shape), np.hstack([[], *kept]))
        ] = 0
    return labels


@settings(max_examples=300)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    density=st.floats(0, 1),
    seed=st.integers(0, 1000),
    steps=STEPS,
    dtype=st.sampled_from([np.uint8, np.uint16]),
    view=st.sampled_from(VIEWS),
)
def test_components_are_those_of_scipy(
    shape: tuple[int, int, int], density: float, seed: int, steps: Any, dtype: Any, view: Any
) -> None:
    random = np.random.default_rng(seed)
    whole = np.where(random.random(shape) < density, random.integers(1, 4, shape), 0).astype(dtype)
    labels = view(whole)
    expected = expected_of(labels, steps)
    postprocess(labels, steps)
    np.testing.assert_array_equal(labels, expected)


def test_of_equal_components_each_stays() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[0, 0, 0] = labels[4, 4, 4] = 1
    postprocess(labels, [KeepLargest((1,))])
    assert labels.sum() == 2
    postprocess(labels, [KeepLargest((1,), equals_stay=False)])
    assert np.argwhere(labels).tolist() == [[4, 4, 4]]


def test_voxels_that_touch_by_a_corner_are_of_one_component() -> None:
    labels = np.zeros((5, 5, 5), np.uint16)
    labels[1, 1, 1] = labels[2, 2, 2] = 300
    labels[4, 4, 4] = labels[0, 4, 4] = 300
    postprocess(labels, [KeepLargest((300,))])
    assert np.argwhere(labels).tolist() == [[1, 1, 1], [2, 2, 2]]


def test_a_later_step_sees_the_result_of_an_earlier() -> None:
    labels = np.zeros((1, 1, 9), np.uint8)
    labels[0, 0] = [1, 2, 2, 0, 1, 1, 0, 2, 0]
    both, one = KeepLargest((1, 2)), KeepLargest((1,))
    forward, backward = labels.copy(), labels.copy()
    postprocess(forward, [both, one])
    postprocess(backward, [one, both])
    assert forward[0, 0].tolist() == [1, 2, 2, 0, 0, 0, 0, 0, 0]
    assert backward[0, 0].tolist() == [0, 2, 2, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("shape", [(64, 64, 64), (1, 1, 4096), (512, 512, 1), (1, 300, 1)])
def test_memory_is_about_a_byte_a_voxel(shape: tuple[int, int, int]) -> None:
    assert postprocessing_bytes((), shape) == 0
    planes = 26 * sorted(shape)[1] * (sorted(shape)[2] + 1)
    needed = postprocessing_bytes((KeepLargest((1,)),), shape)
    assert needed <= 4 * np.prod(shape) + 3 * planes
    steps = KeepLargest((1,)), KeepLargest((1,), connectivity=1, equals_stay=False)
    assert postprocessing_bytes(steps, shape) > needed
