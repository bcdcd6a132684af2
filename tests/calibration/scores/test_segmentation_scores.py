from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.calibration.scores.segmentation_scores import (
    hd95,
    score,
    score_labels,
    structures,
)
from segmaformer.runtime.spec import Label, Output, Region

SPACING = (0.7, 1.0, 2.5)
EMPTY = np.zeros((20, 18, 16), bool)


def _ball(centre: tuple[float, ...], radius: float, shape: tuple[int, ...] = (20, 18, 16)) -> Any:
    grid = np.indices(shape).T - np.asarray(centre)
    return ((grid**2).sum(-1) <= radius**2).T


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        pytest.param(_ball((9, 9, 8), 4), _ball((9, 9, 8), 4), (1.0, 0.0), id="equal"),
        pytest.param(EMPTY, _ball((9, 9, 8), 4), (0.0, None), id="missed"),
        pytest.param(_ball((9, 9, 8), 4), EMPTY, (0.0, None), id="invented"),
        pytest.param(EMPTY, EMPTY, (None, None), id="both empty"),
        pytest.param(_ball((2, 2, 2), 0), _ball((5, 2, 2), 0), (0.0, 2.1), id="points along x"),
        pytest.param(_ball((2, 2, 2), 0), _ball((2, 2, 4), 0), (0.0, 5.0), id="points along z"),
    ],
)
def test_dice_and_distance(found: Any, truth: Any, expected: tuple[Any, Any]) -> None:
    scores = score(found, truth, SPACING)
    assert (scores.dice, scores.hd95_mm) == (
        expected[0],
        None if expected[1] is None else pytest.approx(expected[1]),
    )


def test_volumes_are_in_millilitres_and_per_cent_of_the_truth() -> None:
    truth = np.zeros((20, 10, 10), bool)
    truth[:10] = True
    found = truth.copy()
    found[10:12] = True
    scores = score(found, truth, (1, 1, 2))
    assert (scores.truth_ml, scores.found_ml) == (2.0, 2.4)
    assert scores.volume_error_ml == pytest.approx(0.4)
    assert scores.volume_error_percent == pytest.approx(20)
    assert score(found, np.zeros_like(truth), (1, 1, 2)).volume_error_percent is None
    json.dumps(scores.record(), allow_nan=False)


def _itk_hd95(a: Any, b: Any) -> float:
    """Compute the same definition on ITK's contours and distance maps."""
    itk = pytest.importorskip("SimpleITK")

    def image(mask: Any) -> Any:
        # A rim of background, as ITK finds no contour along the border of an image.
        padded = itk.GetImageFromArray(np.pad(mask, 1).transpose(2, 1, 0).astype(np.uint8))
        padded.SetSpacing(SPACING)
        return itk.LabelContour(padded, fullyConnected=False)

    contours = [image(a), image(b)]
    directed = []
    for first, second in (contours, contours[::-1]):
        distance = itk.SignedMaurerDistanceMap(first, squaredDistance=False, useImageSpacing=True)
        values = np.abs(itk.GetArrayFromImage(distance))
        directed.append(np.percentile(values[itk.GetArrayFromImage(second) > 0], 95))
    return float(max(directed))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_the_distance_is_that_of_itk(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (
        _ball(tuple(random.uniform(0, (20, 18, 16))), random.uniform(2, 7))
        & (random.random((20, 18, 16)) > 0.1)
        for _ in range(2)
    )
    a[3, 4, 5] = b[16, 2, 9] = True
    assert hd95(a, b, SPACING) == pytest.approx(_itk_hd95(a, b), rel=1e-5)
    assert hd95(a, b, SPACING) == hd95(b, a, SPACING)


def test_few_far_voxels_do_not_count() -> None:
    truth = _ball((9, 9, 8), 6)
    found = truth.copy()
    found[0, 0, 0] = True
    assert hd95(found, truth, SPACING) == 0


def test_structures_are_labels_or_regions() -> None:
    labels = tuple(Label(value, name) for value, name in enumerate(("background", "a", "b")))
    assert structures(Output(labels)) == {"a": (1,), "b": (2,)}
    output = Output(labels, (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    assert structures(output) == {"whole": (1, 2), "core": (2,)}


def test_a_region_is_the_union_of_its_labels() -> None:
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[1:5, 1:5, 1:3], truth[1:5, 1:5, 3:5] = 1, 2
    found = np.where(truth > 0, 2, 0)
    scores = score_labels(found, truth, SPACING, {"whole": (1, 2), "core": (2,)})
    assert scores["whole"].dice == 1
    assert scores["core"].dice == pytest.approx(2 / 3)


def test_masks_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(3, 2, 2\)"):
        score(np.ones((2, 2, 2), bool), np.ones((3, 2, 2), bool), SPACING)
    with pytest.raises(ValueError, match="empty"):
        hd95(np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool), SPACING)
