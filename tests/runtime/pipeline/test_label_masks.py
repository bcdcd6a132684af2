"""Masks of label maps on another grid, against the same rule in scipy.ndimage's own zoom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segmaformer.runtime.pipeline.label_masks import fill_masks, with_masks
from segmaformer.runtime.pipeline.preprocessing import Preprocessed
from segmaformer.runtime.scans.volume import Reorientation, Volume
from segmaformer.runtime.spec import Normalization, Preprocessing, PreviousStage, Resampling, Triple

ISOTROPIC, SLICES = (1.0, 1.0, 1.0), (5.0, 1.0, 1.0)


def zoomed(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    result: np.ndarray = ndimage.zoom(
        image.astype(float), factors, order=order, mode="nearest", grid_mode=True
    )
    return result


def resized(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize all axes together, every label on its own."""
    values = np.unique(labels)
    scores = np.stack([zoomed(labels == value, shape, 1) for value in values])
    nearest = zoomed(labels, shape, 0)
    tied = (scores == scores.max(0)) & (
        nearest == values[:, None, None, None].reshape(-1, *[1] * len(shape))
    )
    return np.where(tied.any(0), nearest, values[scores.argmax(0)])


def resized_by_slices(labels: np.ndarray, shape: Triple) -> np.ndarray:
    planes = np.stack([resized(plane, shape[1:]) for plane in labels])
    return zoomed(planes, (shape[0], *planes.shape[1:]), 0)


def found_masks(
    labels: np.ndarray, inside: np.ndarray, shape: Triple, **changes: object
) -> np.ndarray:
    facts = {"spacing_mm": ISOTROPIC, "scan_spacing_mm": ISOTROPIC, "order": 1, **changes}
    grid = Preprocessed(
        np.zeros((1, *shape), np.float32),
        facts["spacing_mm"],  # type: ignore[arg-type]
        Reorientation((0, 1, 2), (False,) * 3),
        labels.shape,  # type: ignore[arg-type]
        tuple(slice(0, extent) for extent in labels.shape),  # type: ignore[arg-type]
        facts["scan_spacing_mm"],  # type: ignore[arg-type]
    )
    masks = np.zeros((3, *shape), np.float32)
    stage = PreviousStage((1, 2, 3), Resampling(order=int(str(facts["order"]))))
    fill_masks(masks, labels, inside, grid, stage)
    return masks


@pytest.mark.parametrize("shape", [(8, 10, 12), (16, 20, 24), (4, 5, 6), (11, 7, 13), (1, 9, 30)])
@pytest.mark.parametrize("way", ["together", "by slices", "nearest"])
def test_masks_are_those_of_the_rule(shape: Triple, way: str) -> None:
    random = np.random.default_rng(sum(shape))
    labels = random.integers(0, 4, (8, 10, 12)).astype(np.uint8)
    inside = (random.random(labels.shape) > 0.3).astype(np.uint8)
    signed = np.where((labels == 0) & (inside == 0), -1, labels.astype(int))
    if way == "together":
        found, expected = found_masks(labels, inside, shape), resized(signed, shape)
    elif way == "nearest":
        found, expected = found_masks(labels, inside, shape, order=0), zoomed(signed, shape, 0)
    else:
        found = found_masks(labels, inside, shape, scan_spacing_mm=SLICES)
        expected = resized_by_slices(signed, shape)
    np.testing.assert_array_equal(found, np.stack([expected == value for value in (1, 2, 3)]))


def test_what_lies_beyond_the_scan_is_no_background() -> None:
    """The label in the middle ties with the background, or beats one half of it."""
    labels = np.array([[[1, 1], [0, 0]]], np.uint8)
    beyond = np.array([[[1, 1], [0, 1]]], np.uint8)
    assert found_masks(labels, np.ones_like(labels), (1, 3, 3))[0, 0, 1, 1] == 0
    assert found_masks(labels, beyond, (1, 3, 3))[0, 0, 1, 1] == 1


def test_masks_follow_the_channels_of_the_scan() -> None:
    voxels = np.zeros((1, 10, 12, 14), np.float32)
    voxels[0, 2:8, 3:9, 4:10] = np.random.default_rng(0).random((6, 6, 6)) + 1
    labels = np.zeros(voxels.shape[1:], np.uint8)
    labels[3:6, 4:7, 5:8] = 2
    spec = Preprocessing(
        ("T1",), (Normalization("zscore"),), transpose_forward=(1, 0, 2), orientation="RAS"
    )
    prepared = with_masks(
        Volume(voxels, np.diag([-1, 1, 1, 1])), spec, labels, PreviousStage((1, 2))
    )
    assert prepared.image.shape == (3, 6, 6, 6)
    assert not prepared.image[1].any()
    # Axes (y, z, x) with x reversed, cropped at 3, 4 and 2.
    expected = labels.transpose(1, 2, 0)[3:9, 4:10, 2:8][:, :, ::-1]
    np.testing.assert_array_equal(prepared.image[2], expected == 2)
