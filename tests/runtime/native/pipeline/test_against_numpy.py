"""The whole native pipeline against its definition in NumPy, SciPy and nibabel, in float64.

Without resampling, which has references of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support.native.whole_pipeline import Case, cases, native_labels, some_case

from segmaformer.runtime.spec import Box, Normalization, Tiling

TIE = 1e-4
"""Difference of logits below which float32 may choose another label."""

on_the_own_grid = cases.map(lambda case: {**case, "spacing": None})


def on_network_axes(case: Case, voxels: np.ndarray) -> np.ndarray:
    """Reorder (X, Y, Z) to the network's depth, height and width."""
    spec = case.preprocessing
    if spec.orientation is not None:
        found = nib.orientations.io_orientation(case.affine)
        wanted = nib.orientations.axcodes2ornt(spec.orientation)
        turn = nib.orientations.ornt_transform(found, wanted)
        voxels = nib.orientations.apply_orientation(voxels, turn)
    return voxels.T.transpose(spec.transpose_forward)


def content_box(image: np.ndarray) -> Box:
    """Find the box of voxels that differ from zero in any channel."""
    (box,) = ndimage.find_objects((image != 0).any(axis=0).astype(int))
    return box


def normalised(channel: np.ndarray, spec: Normalization, mask: np.ndarray) -> np.ndarray:
    if spec.scheme == "none":
        return channel
    if spec.scheme == "ct":
        scaled = (channel.clip(spec.lower, spec.upper) - spec.mean) / spec.std
        return np.asarray(scaled)
    if spec.scheme == "zscore":
        inside = mask if spec.use_mask else np.ones_like(mask)
        some = channel[inside]
        return np.where(inside, (channel - some.mean()) / max(some.std(), 1e-8), channel)
    axes = (1, 2) if spec.scheme == "rescale01_slices" else None
    low, high = (f(axis=axes, keepdims=True) for f in (channel.min, channel.max))
    return np.asarray((channel - low) / np.where(high > low, high - low, 1))


def tile_starts(extent: int, tile: int, tiling: Tiling) -> list[int]:
    if tiling.scheme == "monai":
        stride = max(1, int(tile * tiling.step))
        return [*range(0, extent - tile, stride), extent - tile]
    count = int(np.ceil((extent - tile) / (tile * tiling.step))) + 1
    return [int(start) for start in np.linspace(0, extent - tile, count).round()]


def tile_weights(tiling: Tiling) -> np.ndarray:
    if not tiling.gaussian:
        return np.ones(tiling.tile)
    if tiling.scheme == "monai":
        bells = (np.exp(-(((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) / 2) for n in tiling.tile)
        return np.einsum("z,y,x->zyx", *bells).clip(1e-3)
    impulse = np.zeros(tiling.tile)
    impulse[tuple(n // 2 for n in tiling.tile)] = 1
    blurred = ndimage.gaussian_filter(impulse, [n / 8 for n in tiling.tile], mode="constant")
    weights = (10 * blurred / blurred.max()).astype(np.float16).astype(np.float64)
    weights[weights == 0] = weights[weights > 0].min()
    return weights


def mirrored(case: Case, tile: np.ndarray) -> np.ndarray:
    """Average the logits (K, *tile) over all mirrorings."""
    ways = [
        tuple(1 + axis for axis in axes)
        for count in range(len(case.mirror_axes) + 1)
        for axes in itertools.combinations(case.mirror_axes, count)
    ]
    found = [np.flip(case.run(np.flip(tile, axes)[None])[0], axes) for axes in ways]
    return np.asarray(np.mean(found, axis=0))


def boxes(shape: tuple[int, ...], tiling: Tiling) -> Iterator[Box]:
    starts = (tile_starts(n, t, tiling) for n, t in zip(shape, tiling.tile, strict=True))
    for corner in itertools.product(*starts):
        z, y, x = (slice(c, c + t) for c, t in zip(corner, tiling.tile, strict=True))
        yield z, y, x


def all_logits(case: Case, image: np.ndarray) -> np.ndarray:
    """Blend the logits (K, D, H, W) of all tiles of an image (C, D, H, W)."""
    missing = [max(0, t - n) for n, t in zip(image.shape[1:], case.tiling.tile, strict=True)]
    around = [(some // 2, some - some // 2) for some in missing]
    padded = np.pad(image, [(0, 0), *around])
    weights = tile_weights(case.tiling)
    sums = np.zeros((case.output.channels, *padded.shape[1:]))
    total = np.zeros(padded.shape[1:])
    for box in boxes(padded.shape[1:], case.tiling):
        sums[(slice(None), *box)] += weights * mirrored(case, padded[(slice(None), *box)])
        total[box] += weights
    inside = tuple(slice(a, a + n) for (a, _), n in zip(around, image.shape[1:], strict=True))
    return np.asarray((sums / total)[(slice(None), *inside)])


def chosen(case: Case, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, and by how much each was chosen."""
    if case.output.regions:
        labels = np.zeros(logits.shape[1:], int)
        for channel, region in zip(logits, case.output.regions, strict=True):
            labels[channel > 0] = region.value
        return labels, np.abs(logits).min(axis=0)
    first, second = np.sort(logits, axis=0)[[-1, -2]]
    return logits.argmax(axis=0), first - second


@settings(max_examples=40)
@given(given_=on_the_own_grid, tiles_at_once=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_labels_follow_the_definition(
    given_: dict[str, Any], tiles_at_once: int, seed: int
) -> None:
    case = some_case(np.random.default_rng(seed), **given_)
    image = np.stack([on_network_axes(case, c) for c in case.voxels.astype(np.float64)])
    stored = np.arange(case.voxels[0].size).reshape(case.voxels.shape[1:])
    places = on_network_axes(case, stored)
    if case.preprocessing.crop_to_nonzero:
        box = content_box(image)
        image, places = image[(slice(None), *box)], places[box]
    mask = ndimage.binary_fill_holes((image != 0).any(axis=0))
    specs = case.preprocessing.normalization
    image = np.stack([normalised(c, s, mask) for c, s in zip(image, specs, strict=True)])
    labels, margins = chosen(case, all_logits(case, image))
    found = native_labels(case, tiles_at_once=tiles_at_once)
    inside = found.ravel()[places]
    certain = margins > TIE
    assert certain.mean() > 0.9
    np.testing.assert_array_equal(inside[certain], labels[certain])
    outside = np.ones(found.size, bool)
    outside[places] = False
    assert not found.ravel()[outside].any()
