"""Masks of label maps on another grid, against the same rule in scipy.ndimage's own zoom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segmaformer.runtime.pipeline.preprocessing import Preprocessed, network_grid, with_masks
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Normalization, Preprocessing, PreviousStage, Resampling, Triple

LABELS = (1, 2, 3)
WAYS = {
    "together": Resampling(order=1, separate_z=False),
    "by slices": Resampling(order=1, separate_z=True),
    "nearest": Resampling(order=0, separate_z=False),
}
THICK = 5.0


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


def masked(
    volume: Volume, spec: Preprocessing, labels: np.ndarray, stage: PreviousStage
) -> Preprocessed:
    return with_masks(volume, spec, network_grid(volume, spec, whole=False), labels, stage)


def found_masks(
    labels: np.ndarray, inside: np.ndarray, shape: Triple, resampling: Resampling
) -> np.ndarray:
    """Return masks (3, D, H, W) of labels (D, H, W) of a scan that is not zero `inside`."""
    spacing = (THICK, 1.0, 1.0)
    depth, height, width = (
        step * old / new for step, old, new in zip(spacing, labels.shape, shape, strict=True)
    )
    spec = Preprocessing(
        ("T1",),
        (Normalization("none"),),
        orientation=None,
        crop_to_nonzero=False,
        spacing=(depth, height, width),
    )
    volume = Volume(inside.T[None].astype(np.float32), np.diag([*spacing[::-1], 1.0]))
    image = masked(volume, spec, labels.T, PreviousStage(LABELS, resampling)).image
    assert image.shape[1:] == shape
    return image[1:]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(8, 10, 12), (16, 20, 24), (4, 5, 6), (11, 7, 13), (1, 9, 30)])
@pytest.mark.parametrize("way", WAYS)
def test_masks_are_those_of_the_rule(shape: Triple, way: str, dtype: type) -> None:
    random = np.random.default_rng(sum(shape))
    labels = random.integers(0, 4, (8, 10, 12)).astype(dtype)
    nonzero = random.random(labels.shape) > 0.3
    signed = np.where((labels == 0) & ~ndimage.binary_fill_holes(nonzero), -1, labels.astype(int))
    if way == "together":
        expected = resized(signed, shape)
    elif way == "nearest":
        expected = zoomed(signed, shape, 0)
    else:
        expected = resized_by_slices(signed, shape)
    found = found_masks(labels, nonzero, shape, WAYS[way])
    np.testing.assert_array_equal(found, np.stack([expected == value for value in LABELS]))


def test_what_lies_beyond_the_scan_is_no_background() -> None:
    """The label in the middle ties with the background, or beats one half of it."""
    labels = np.array([[[1, 1], [0, 0]]], np.uint8)
    beyond = np.array([[[1, 1], [0, 1]]], np.uint8)
    way = WAYS["together"]
    assert found_masks(labels, np.ones_like(labels), (1, 3, 3), way)[0, 0, 1, 1] == 0
    assert found_masks(labels, beyond, (1, 3, 3), way)[0, 0, 1, 1] == 1


def test_a_first_label_beyond_the_scan_is_normalised_too() -> None:
    voxels = np.zeros((1, 8, 8, 8), np.float32)
    voxels[0, 2:, 2:, 2:] = np.random.default_rng(0).random((6, 6, 6)) + 1
    labels = np.zeros(voxels.shape[1:], np.uint8)
    labels[0, 3:6, 4:7] = 1
    spec = Preprocessing(
        ("T1",), (Normalization("zscore", use_mask=True),), orientation=None, crop_to_nonzero=False
    )
    image = masked(Volume(voxels, np.eye(4)), spec, labels, PreviousStage((1,))).image[0].T
    inside = (voxels[0] > 0) | (labels > 0)
    seen = voxels[0, inside]
    np.testing.assert_allclose(image[inside], (seen - seen.mean()) / seen.std(), rtol=1e-5)
    assert not image[~inside].any()


def test_masks_follow_the_channels_of_the_scan() -> None:
    voxels = np.zeros((1, 10, 12, 14), np.float32)
    voxels[0, 2:8, 3:9, 4:10] = np.random.default_rng(0).random((6, 6, 6)) + 1
    labels = np.zeros(voxels.shape[1:], np.uint8)
    labels[3:6, 4:7, 5:8] = 2
    spec = Preprocessing(
        ("T1",), (Normalization("zscore"),), transpose_forward=(1, 0, 2), orientation="RAS"
    )
    prepared = masked(Volume(voxels, np.diag([-1, 1, 1, 1])), spec, labels, PreviousStage((1, 2)))
    assert prepared.image.shape == (3, 6, 6, 6)
    assert not prepared.image[1].any()
    # Axes (y, z, x) with x reversed, cropped at 3, 4 and 2.
    expected = labels.transpose(1, 2, 0)[3:9, 4:10, 2:8][:, :, ::-1]
    np.testing.assert_array_equal(prepared.image[2], expected == 2)
