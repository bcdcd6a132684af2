"""Distance maps against SciPy's exact Euclidean distance transform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segmaformer.runtime.bindings.distance_map import distance_map
from segmaformer.runtime.spec import Spacing


def some_mask(shape: tuple[int, int, int], density: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    mask = random.random(shape) < density
    mask[tuple(random.integers(0, shape))] = True
    return mask


@settings(max_examples=200)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    density=st.sampled_from([0, 0.01, 0.1, 0.6]),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    seed=st.integers(0, 1000),
)
def test_equals_scipy_but_for_rounding(shape, density, spacing, seed) -> None:
    """SciPy's choice of the nearest voxel and ours may differ where two are equally far."""
    mask = some_mask(shape, density, seed)
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing)
    np.testing.assert_allclose(distance_map(mask, spacing), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 0.5, 3)])
def test_equals_scipy_bit_for_bit_where_squares_are_exact(spacing: Spacing) -> None:
    mask = some_mask((40, 30, 50), 0.001, 0)
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing)
    assert np.array_equal(distance_map(mask, spacing), expected)


def test_a_mask_may_be_strided() -> None:
    mask = some_mask((12, 10, 8), 0.05, 1)
    assert np.array_equal(
        distance_map(np.asfortranarray(mask), (1, 2, 3)), distance_map(mask, (1, 2, 3))
    )


def test_an_empty_mask_is_infinitely_far() -> None:
    assert np.isposinf(distance_map(np.zeros((2, 3, 4), bool), (1, 1, 1))).all()


@pytest.mark.parametrize(
    ("shape", "spacing", "message"),
    [
        ((2, 3, 0), (1, 1, 1), "an extent is below 1"),
        ((2, 3, 4), (1, 0, 1), "a spacing is not above 0"),
        ((2, 3, 4), (1, float("nan"), 1), "a spacing is not above 0"),
        ((2, 3, 4), (1, 1, float("inf")), "a spacing is not above 0"),
    ],
)
def test_what_it_cannot_measure_is_refused(
    shape: tuple[int, int, int], spacing: Spacing, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        distance_map(np.ones(shape, bool), spacing)
