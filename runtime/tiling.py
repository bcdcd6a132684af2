"""Cutting a volume into tiles and blending their logits, as nnU-Net v2 does.

Source: F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based
biomedical image segmentation", Nature Methods 18, 203-211 (2021), and the behaviour of
``nnunetv2``'s predictor: evenly spread steps, a truncated Gaussian of sigma tile/8 with
peak 10 rounded to float16, volumes smaller than a tile padded with zeros.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from segmaformer.runtime.manifest import Tiling, Triple

Box = tuple[slice, slice, slice]
RunTiles = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]

GAUSSIAN_PEAK = 10.0
GAUSSIAN_SIGMA = 1 / 8


def tile_starts(extent: int, tile: int, step: float) -> list[int]:
    """First voxels of the tiles along one axis.

    Parameters
    ----------
    extent
        Voxels along the axis, at least `tile`.
    tile
        Voxels of a tile.
    step
        Largest distance of neighbouring tiles, as a fraction of `tile`.

    Returns
    -------
    list of int
        Evenly spread from 0 to ``extent - tile``.
    """
    count = int(np.ceil((extent - tile) / (tile * step))) + 1
    spread = (extent - tile) / (count - 1) if count > 1 else 0.0
    return [int(np.round(spread * index)) for index in range(count)]


def tile_boxes(shape: Triple, tiling: Tiling) -> list[Box]:
    """Every tile of a volume that is at least one tile large, depth slowest."""
    starts = [
        tile_starts(extent, tile, tiling.step)
        for extent, tile in zip(shape, tiling.tile, strict=True)
    ]
    return [_box(corner, tiling.tile) for corner in itertools.product(*starts)]


def _box(corner: tuple[int, ...], extent: tuple[int, ...]) -> Box:
    depth, height, width = (slice(c, c + e) for c, e in zip(corner, extent, strict=True))
    return depth, height, width


@functools.lru_cache(maxsize=4)
def gaussian_weights(tile: Triple) -> np.ndarray:
    """Weight of each voxel of a tile, float32, shape `tile`, positive everywhere."""
    delta = np.zeros(tile)
    delta[tuple(extent // 2 for extent in tile)] = 1
    sigma = [extent * GAUSSIAN_SIGMA for extent in tile]
    weights = ndimage.gaussian_filter(delta, sigma, order=0, mode="constant", cval=0)
    rounded = (weights / weights.max() * GAUSSIAN_PEAK).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded.astype(np.float32)


def pad_to_tile(image: np.ndarray, tile: Triple) -> tuple[np.ndarray, Box]:
    """Zero-pad (C, D, H, W) symmetrically to at least one tile.

    Returns
    -------
    padded, box
        The padded image, and where the image lies in it.
    """
    shape = image.shape[1:]
    missing = [max(0, t - extent) for t, extent in zip(tile, shape, strict=True)]
    padding = [(0, 0), *((m // 2, m - m // 2) for m in missing)]
    box = _box(tuple(m // 2 for m in missing), shape)
    return (np.pad(image, padding) if any(missing) else image), box


def mirrored_mean(run: RunTiles, tiles: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mean of the logits over all combinations of mirrored `axes` (0 is depth)."""
    total = run(tiles)
    combinations = [
        tuple(axis + 2 for axis in chosen)
        for count in range(1, len(axes) + 1)
        for chosen in itertools.combinations(axes, count)
    ]
    for flipped in combinations:
        total = total + np.flip(run(np.ascontiguousarray(np.flip(tiles, flipped))), flipped)
    return total / np.float32(len(combinations) + 1)


def predict_logits(
    image: np.ndarray,
    tiling: Tiling,
    run: RunTiles,
    channels: int,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """Blend the logits of all tiles.

    Parameters
    ----------
    image
        Shape (C, D, H, W), float32, on the network's grid.
    tiling
        Tile, step and weights; mirroring is the business of `run`.
    run
        Tiles (1, C, *tile) to logits (1, K, *tile).
    channels
        K.
    progress
        Called with the tiles done and their number.

    Returns
    -------
    np.ndarray
        Shape (K, D, H, W), float32.
    """
    padded, inner = pad_to_tile(image, tiling.tile)
    weights = gaussian_weights(tiling.tile) if tiling.gaussian else np.ones(tiling.tile, np.float32)
    total = np.zeros((channels, *padded.shape[1:]), np.float32)
    weight_sum = np.zeros(padded.shape[1:], np.float32)
    depth, height, width = padded.shape[1:]
    boxes = tile_boxes((depth, height, width), tiling)
    report = progress or (lambda done, count: None)
    report(0, len(boxes))
    for done, box in enumerate(boxes, start=1):
        tile = np.ascontiguousarray(padded[(slice(None), *box)])[None]
        total[(slice(None), *box)] += run(tile)[0] * weights
        weight_sum[box] += weights
        report(done, len(boxes))
    total /= weight_sum
    return total[(slice(None), *inner)]

