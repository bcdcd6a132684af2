from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segmaformer.calibration.tile_choice import (
    LEAST_EXAMINED,
    boxes_to_examine,
    choose_tiles,
    label_voxels,
)
from segmaformer.runtime.pipeline.tiling import tile_boxes
from segmaformer.runtime.spec import Tiling

TILING = Tiling((8, 8, 8))


def test_few_boxes_are_all_examined() -> None:
    shape = (8, 12, 16)
    found = boxes_to_examine(shape, TILING, 2, np.random.default_rng(0))
    assert found == tile_boxes(shape, TILING)


def test_of_many_boxes_some_are_examined_in_order_by_the_seed() -> None:
    shape = (40, 40, 40)
    every = tile_boxes(shape, TILING)
    first, again, other = (
        boxes_to_examine(shape, TILING, 2, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(first) == LEAST_EXAMINED
    places = [every.index(box) for box in first]
    assert places == sorted(set(places))


def test_labels_are_counted_and_others_passed_over() -> None:
    assert label_voxels(np.array([[0, 2, 2], [9, 1, 0]]), 3).tolist() == [2, 1, 2]


def test_a_rare_label_is_chosen_before_more_of_a_common_one() -> None:
    voxels = np.array([[0, 900, 0], [0, 800, 0], [990, 0, 10], [500, 500, 0]])
    assert choose_tiles(voxels, 2) == [0, 2]


def test_every_third_tile_is_the_one_with_most_background() -> None:
    voxels = np.array([[100, 900], [900, 100], [1000, 0], [200, 800]])
    assert 2 in choose_tiles(voxels, 3)
    assert 2 not in choose_tiles(voxels, 2)


@settings(max_examples=50)
@given(arrays(np.int64, (7, 4), elements=st.integers(0, 5000)), st.integers(1, 9))
def test_choices_are_different_tiles_in_order(voxels: np.ndarray, wanted: int) -> None:
    chosen = choose_tiles(voxels, wanted)
    assert len(chosen) == min(wanted, 7)
    assert chosen == sorted(set(chosen))
    assert chosen == choose_tiles(voxels.copy(), wanted)


@pytest.mark.parametrize("label", [1, 2, 3])
def test_a_label_in_one_tile_alone_is_covered(label: int) -> None:
    voxels = np.full((6, 4), 100)
    voxels[:, label] = 0
    voxels[4, label] = 50
    assert 4 in choose_tiles(voxels, 2)
