from __future__ import annotations

import numpy as np
import pytest

from segmaformer.runtime.results.palette import OKABE_ITO, colour_distances, label_colours


def closest_pair(count: int) -> float:
    colours = label_colours(count)
    distances = colour_distances(colours, colours)
    return float(distances[~np.eye(count, dtype=bool)].min())


def test_begins_with_okabe_and_ito() -> None:
    assert [bytes(colour).hex().upper() for colour in label_colours(7)] == list(OKABE_ITO)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 40])
def test_a_longer_palette_begins_with_a_shorter_one(count: int) -> None:
    colours = label_colours(count)
    assert colours.shape == (count, 3)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours, label_colours(60)[:count])


@pytest.mark.parametrize(("count", "distance"), [(12, 0.07), (24, 0.06), (117, 0.02)])
def test_colours_stay_apart_for_every_kind_of_sight(count: int, distance: float) -> None:
    # 0.02 is about what one notices side by side in Oklab.
    assert closest_pair(count) > distance


def test_colours_are_told_from_the_grey_of_a_scan() -> None:
    colours = label_colours(117).astype(int)
    assert (colours.max(1) - colours.min(1)).min() > 30


def test_distance_scale_and_the_loss_of_red_and_green() -> None:
    black, white, red, green = np.array(
        [[[0, 0, 0]], [[255, 255, 255]], [[200, 80, 60]], [[110, 120, 40]]], np.uint8
    )
    assert colour_distances(black, white)[0, 0] == pytest.approx(1, abs=0.01)
    assert colour_distances(red, red)[0, 0] == 0
    assert colour_distances(red, green)[0, 0] < 0.15


def test_refuses_a_negative_count() -> None:
    with pytest.raises(ValueError, match="count is -1"):
        label_colours(-1)
