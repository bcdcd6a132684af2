"""Cutting a volume into tiles and blending their logits, as nnU-Net v2 or as MONAI does.

Both pad volumes smaller than a tile with zeros, half on either side, and weigh the logits
by a Gaussian of sigma tile/8. They differ in two things:

* nnU-Net spreads tiles evenly; its Gaussian is truncated, has peak 10 and is rounded to
  float16. Source: F. Isensee et al., "nnU-Net: a self-configuring method for deep
  learning-based biomedical image segmentation", Nature Methods 18, 203-211 (2021), and
  the behaviour of ``nnunetv2``'s predictor.
* MONAI lays tiles at a fixed stride and moves the last one back inside; its Gaussian is
  nowhere below 0.001. Source: M. J. Cardoso et al., "MONAI: An open-source framework for
  deep learning in healthcare", arXiv:2211.02701 (2022), and the behaviour of
  ``monai.inferers.sliding_window_inference``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from segmaformer.runtime.manifest import Tiling, TilingScheme, Triple

Box = tuple[slice, slice, slice]
RunTiles = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]

BLENDINGS: dict[str, tuple[TilingScheme, bool]] = {
    "nnunet": ("nnunet", True),
    "monai-constant": ("monai", False),
    "monai-gaussian": ("monai", True),
}
"""Scheme and whether weights are Gaussian, by a name; MONAI's are those of its modes."""

GAUSSIAN_PEAK = 10.0
GAUSSIAN_SIGMA = 1 / 8
MONAI_LEAST_WEIGHT = 1e-3


def tile_starts(extent: int, tile: int, step: float) -> list[int]:
    """First voxels of nnU-Net's tiles along one axis.

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
        Evenly spread from 0 to ``extent - tile``, rounded half to even.

    Raises
    ------
    ValueError
        The axis is shorter than a tile, or `step` is not above 0 and at most 1.
    """
    _check_axis(extent, tile, step)
    count = int(np.ceil((extent - tile) / (tile * step))) + 1
    spread = (extent - tile) / (count - 1) if count > 1 else 0.0
    return [int(np.round(spread * index)) for index in range(count)]


def strided_starts(extent: int, tile: int, step: float) -> list[int]:
    """First voxels of MONAI's tiles along one axis; parameters as for :func:`tile_starts`.

    Returns
    -------
    list of int
        From 0 at a distance of `step` tiles, rounded down to whole voxels, but at least
        one; the last is ``extent - tile``.

    Raises
    ------
    ValueError
        As :func:`tile_starts`.
    """
    _check_axis(extent, tile, step)
    return [*range(0, extent - tile, max(1, int(tile * step))), extent - tile]


def _check_axis(extent: int, tile: int, step: float) -> None:
    if not 0 < tile <= extent:
        raise ValueError(f"a tile of {tile} voxels does not fit {extent}; pad the volume first")
    if not 0 < step <= 1:
        raise ValueError(f"step is {step}; expected a part of the tile, above 0 and at most 1")


def tile_boxes(shape: Triple, tiling: Tiling) -> list[Box]:
    """Every tile of a volume that is at least one tile large, depth slowest."""
    starts_of = strided_starts if tiling.scheme == "monai" else tile_starts
    starts = [
        starts_of(extent, tile, tiling.step)
        for extent, tile in zip(shape, tiling.tile, strict=True)
    ]
    return [_box(corner, tiling.tile) for corner in itertools.product(*starts)]


def _box(corner: tuple[int, ...], extent: tuple[int, ...]) -> Box:
    depth, height, width = (slice(c, c + e) for c, e in zip(corner, extent, strict=True))
    return depth, height, width


def tile_weights(tiling: Tiling) -> np.ndarray:
    """Weight of each voxel of a tile in the blend.

    Returns
    -------
    np.ndarray
        Shape ``tiling.tile``, float32, positive everywhere.
    """
    if not tiling.gaussian:
        return np.ones(tiling.tile, np.float32)
    gaussian = monai_weights if tiling.scheme == "monai" else gaussian_weights
    return gaussian(tiling.tile)


@functools.lru_cache(maxsize=4)
def gaussian_weights(tile: Triple) -> np.ndarray:
    """nnU-Net's weight of each voxel of a tile: largest at its centre, positive everywhere.

    Returns
    -------
    np.ndarray
        Shape `tile`, float32 with float16's precision, read-only.
    """
    delta = np.zeros(tile)
    delta[tuple(extent // 2 for extent in tile)] = 1
    sigma = [extent * GAUSSIAN_SIGMA for extent in tile]
    weights = ndimage.gaussian_filter(delta, sigma, order=0, mode="constant", cval=0)
    weights /= weights.max() / GAUSSIAN_PEAK
    rounded = weights.astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    shared = rounded.astype(np.float32)
    shared.flags.writeable = False
    return shared


@functools.lru_cache(maxsize=4)
def monai_weights(tile: Triple) -> np.ndarray:
    """MONAI's weight of each voxel of a tile: symmetric about its centre, at least 0.001.

    Returns
    -------
    np.ndarray
        Shape `tile`, float32, computed as such, read-only.
    """
    weights = np.ones((1, 1, 1), np.float32)
    for axis, extent in enumerate(tile):
        offsets = np.arange(extent, dtype=np.float32) - np.float32((extent - 1) / 2)
        exponents = np.square(offsets) / np.float32(-2 * (extent * GAUSSIAN_SIGMA) ** 2)
        others = [other for other in range(3) if other != axis]
        weights = weights * np.expand_dims(np.exp(exponents), others)
    np.maximum(weights, np.float32(MONAI_LEAST_WEIGHT), out=weights)
    weights.flags.writeable = False
    return weights


def place_in_tiles(shape: Triple, tile: Triple) -> tuple[Triple, Box]:
    """The volume that tiles cover, at least one tile large, and where an image lies in it.

    Returns
    -------
    padded_shape, box
        Missing voxels are added half on either side.
    """
    depth, height, width = (max(t, extent) for t, extent in zip(tile, shape, strict=True))
    padded = (depth, height, width)
    corner = tuple((p - extent) // 2 for p, extent in zip(padded, shape, strict=True))
    return padded, _box(corner, shape)


def cut_tile(image: np.ndarray, box: Box, place: Box) -> np.ndarray:
    """Copy one tile out of an image, with zeros where it reaches beyond.

    Parameters
    ----------
    image
        Shape (C, D, H, W).
    box
        The tile.
    place
        Where the image lies, in the same coordinates as `box`.

    Returns
    -------
    np.ndarray
        Shape (C, *tile), contiguous.
    """
    tile = np.zeros((len(image), *(side.stop - side.start for side in box)), image.dtype)
    shared = shared_part(box, place)
    if shared is not None:
        inside, source = shared
        tile[(slice(None), *inside)] = image[(slice(None), *source)]
    return tile


def pad_to_tile(image: np.ndarray, tile: Triple) -> tuple[np.ndarray, Box]:
    """Zero-pad (C, D, H, W) symmetrically to at least one tile.

    Returns
    -------
    padded, box
        The padded image, `image` itself where it is large enough, and where it lies in it.
    """
    _, depth, height, width = image.shape
    shape, place = place_in_tiles((depth, height, width), tile)
    if shape == (depth, height, width):
        return image, place
    return cut_tile(image, _box((0, 0, 0), shape), place), place


def shared_part(box: Box, other: Box) -> tuple[Box, Box] | None:
    """Where the voxels that two boxes share lie in each; None if there are none."""
    if not meet(box, other):
        return None
    begins = [max(a.start, b.start) for a, b in zip(box, other, strict=True)]
    ends = [min(a.stop, b.stop) for a, b in zip(box, other, strict=True)]
    extent = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
    in_box, in_other = (
        _box(tuple(b - side.start for b, side in zip(begins, sides, strict=True)), extent)
        for sides in (box, other)
    )
    return in_box, in_other


def meet(box: Box, other: Box) -> bool:
    """Whether two boxes share voxels."""
    a, b, c = box
    x, y, z = other
    return (
        a.start < x.stop
        and x.start < a.stop
        and b.start < y.stop
        and y.start < b.stop
        and c.start < z.stop
        and z.start < c.stop
    )


def mirrored_mean(run: RunTiles, tiles: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mean of the logits over all combinations of mirrored axes.

    Parameters
    ----------
    run
        The network.
    tiles
        Shape (B, C, D, H, W), float32.
    axes
        Axes to mirror, 0 is depth; each doubles the number of runs.

    Returns
    -------
    np.ndarray
        Shape (B, K, D, H, W), float32.
    """
    total = run(tiles)
    # Without mirroring the logits pass on as they are: a copy would cost a tile of memory.
    if not axes:
        return total
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
        Called with the tiles done and their number, first with none done.

    Returns
    -------
    np.ndarray
        Shape (K, D, H, W), float32.
    """
    _, depth, height, width = image.shape
    shape, inner = place_in_tiles((depth, height, width), tiling.tile)
    weights = tile_weights(tiling)
    total = np.zeros((channels, *shape), np.float32)
    weight_sum = np.zeros(shape, np.float32)
    boxes = tile_boxes(shape, tiling)
    report = progress or (lambda done, count: None)
    report(0, len(boxes))
    for done, box in enumerate(boxes, start=1):
        total[(slice(None), *box)] += run(cut_tile(image, box, inner)[None])[0] * weights
        weight_sum[box] += weights
        report(done, len(boxes))
    total /= weight_sum
    return total[(slice(None), *inner)]
