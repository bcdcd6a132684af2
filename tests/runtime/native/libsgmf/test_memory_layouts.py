"""Volumes and label maps in any layout of memory and any order of axes, with the same labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.libsgmf import Handle, labels_of, volume_of
from support.packages.samples import head_like

SHAPE = (19, 14, 23)
AFFINE = np.diag([1.1, 0.9, 1.3, 1.0])
UNTOUCHED = 7777
few = settings(max_examples=10, deadline=None)
gaps = st.tuples(*[st.integers(0, 3)] * 4)


@pytest.fixture(scope="module")
def handle(region_package: Path) -> Iterator[Handle]:
    with Handle(region_package) as opened:
        yield opened


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    return np.stack([head_like(SHAPE, seed) for seed in range(2)])


@pytest.fixture(scope="module")
def expected(handle: Handle, voxels: np.ndarray) -> np.ndarray:
    labels = segmented(handle, voxels, AFFINE)
    assert len(np.unique(labels)) > 2
    return labels


def segmented(handle: Handle, voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    labels = np.full(voxels.shape[1:], UNTOUCHED, np.uint16, order="F")
    assert handle.run(volume_of(voxels, affine), labels_of(labels)) == "SGMF_OK", handle.message
    return labels


def with_gaps(
    shape: tuple[int, ...], dtype: str, order: tuple[int, ...], gaps: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Make memory with room behind each axis; also return a view of `shape`, slowest axis first."""
    memory = np.full([shape[a] + g for a, g in zip(order, gaps, strict=True)], UNTOUCHED, dtype)
    inner = memory[tuple(slice(shape[axis]) for axis in order)]
    return memory, inner.transpose([order.index(axis) for axis in range(len(shape))])


@few
@given(order=st.permutations(range(4)), gaps=gaps, dtype=st.sampled_from(["float32", "float64"]))
def test_voxels_in_any_layout(
    handle: Handle,
    voxels: np.ndarray,
    expected: np.ndarray,
    order: list[int],
    gaps: tuple[int, ...],
    dtype: str,
) -> None:
    memory, view = with_gaps(voxels.shape, dtype, tuple(order), gaps)
    view[...] = voxels
    volume = volume_of(view, AFFINE, size_bytes=memory.nbytes)
    labels = np.empty(SHAPE, np.uint16, order="F")
    assert handle.run(volume, labels_of(labels)) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(labels, expected)


@few
@given(order=st.permutations(range(3)), gaps=gaps)
def test_labels_in_any_layout_touch_nothing_between(
    handle: Handle,
    voxels: np.ndarray,
    expected: np.ndarray,
    order: list[int],
    gaps: tuple[int, ...],
) -> None:
    memory, view = with_gaps(SHAPE, "uint16", tuple(order), gaps[:3])
    strides = tuple(stride // view.itemsize for stride in view.strides)
    labels = labels_of(memory, strides=strides)
    assert handle.run(volume_of(voxels, AFFINE), labels) == "SGMF_OK", handle.message
    np.testing.assert_array_equal(view, expected)
    view[...] = UNTOUCHED
    assert (memory == UNTOUCHED).all()


@few
@given(
    axes=st.sampled_from([*itertools.permutations(range(3))]),
    flipped=st.tuples(*[st.booleans()] * 3),
)
def test_labels_follow_the_order_and_direction_of_stored_axes(
    handle: Handle,
    voxels: np.ndarray,
    expected: np.ndarray,
    axes: tuple[int, int, int],
    flipped: tuple[bool, bool, bool],
) -> None:
    """The affine tells where each voxel lies, so that the network sees the same volume."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flipped)
    to_original = np.zeros((4, 4))
    to_original[3, 3] = 1
    for place, (axis, flip) in enumerate(zip(axes, flipped, strict=True)):
        to_original[axis, place] = -1 if flip else 1
        to_original[axis, 3] = SHAPE[axis] - 1 if flip else 0
    stored = np.stack([channel.transpose(axes)[steps] for channel in voxels])
    found = segmented(handle, stored, AFFINE @ to_original)
    np.testing.assert_array_equal(found, expected.transpose(axes)[steps])
