from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime import channel_resize
from segmaformer.runtime.manifest import Resampling
from segmaformer.runtime.resampling import channel_resize as resize_of

SPACING = (1.0, 1.0, 1.0)


class Recorder:
    """An array that counts how often its planes along an axis are read."""

    def __init__(self, array: np.ndarray, axis: int):
        self._array = array
        self._axis = axis
        self.shape = array.shape
        self.reads = np.zeros(array.shape[axis], int)
        self.longest = 0

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        self.reads[box[self._axis]] += 1
        part = self._array[box]
        self.longest = max(self.longest, part.shape[self._axis])
        return part


def resized(source, shape, threads=0, **options) -> np.ndarray:
    target = np.full(shape, np.nan, np.float32)
    resize = resize_of(
        source.shape,
        shape,
        spacing_mm=options.pop("spacing_mm", SPACING),
        new_spacing_mm=SPACING,
        resampling=Resampling(**options),
        threads=threads,
    )
    resize.run(source, target)
    return target


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    new_shape=st.tuples(*[st.integers(1, 30)] * 3),
    coarse=st.sampled_from([None, 0, 1, 2]),
    order=st.sampled_from([0, 1, 3]),
    order_z=st.integers(0, 1),
    part_voxels=st.integers(1, 3000),
    threads=st.integers(1, 3),
)
def test_the_size_of_parts_and_threads_change_nothing(
    shape, new_shape, coarse, order, order_z, part_voxels, threads
) -> None:
    source = np.random.default_rng(sum(shape)).normal(0, 100, shape).astype(np.float32)
    spacing_mm = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    options = {"spacing_mm": spacing_mm, "order": order, "order_z": order_z}
    whole = resized(source, new_shape, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_resize, "_PART_VOXELS", part_voxels)
        parts = resized(source, new_shape, threads, **options)
    assert np.isfinite(whole).all()
    assert np.array_equal(parts, whole)


@pytest.mark.parametrize("axis", range(3))
def test_planes_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    monkeypatch.setattr(channel_resize, "_PART_VOXELS", 250)
    array = np.random.default_rng(0).normal(size=(10, 10, 10)).astype(np.float32)
    source = Recorder(array, axis)
    spacing_mm = tuple(5.0 if other == axis else 1.0 for other in range(3))
    found = resized(source, (9, 9, 9), spacing_mm=spacing_mm)
    assert source.longest == 2
    assert (source.reads == 1).all()
    assert np.array_equal(found, resized(array, (9, 9, 9), spacing_mm=spacing_mm))


def test_an_unchanged_shape_is_copied() -> None:
    array = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    assert np.array_equal(resized(array, array.shape), array)
