"""Tiles on which a network is compared with its reference: PyTorch, or another backend.

Tiles of a real scan are best. Without one, phantoms stand in: a body with organs of smooth and
textured contrast on an empty background, more than half of the tile, normalised as the package
states. White noise would not do: it has no flat regions, where norms and half precision fail first.
In CT all but the first have air outside the body, at the lower end of the window; the first is the
one whose answer packages hold, so it must not change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.pipeline.normalization import normalize
from segmaformer.runtime.pipeline.scan_image import ScanOptions, read_scan_image
from segmaformer.runtime.pipeline.tiling import tile_boxes
from segmaformer.runtime.spec import Normalization, Preprocessing, Tiling, Triple
from segmaformer.runtime.system.memory import MIB, available_bytes

TILE_COUNT = 4
PHANTOM_COUNT = 2
ORGAN_COUNT = 12

# Memory for making a phantom: its organs, its grid and an ellipsoid, in float64.
_WORK_BYTES = 8 * (ORGAN_COUNT + 3 + 10)

_BLUR_COLUMNS = 8192  # few enough for a processor's cache


def tiles_from_scan(
    scan: Sequence[Path],
    preprocessing: Preprocessing,
    tiling: Tiling,
    count: int = TILE_COUNT,
    *,
    options: ScanOptions = ScanOptions(),  # noqa: B008  (frozen)
) -> np.ndarray:
    """Cut tiles out of a scan after the package's own preprocessing.

    Parameters
    ----------
    scan
        Files or DICOM folders of the scan in the order of the channels.
    preprocessing, tiling
        Preprocessing and tiling of the package to be written.
    count
        Largest number of tiles; spread evenly over the scan if it has more.
    options
        Choices about reading.

    Returns
    -------
    np.ndarray
        Shape (n, C, *tile), float32.

    Raises
    ------
    InputError, GeometryError, BudgetError
        The scan cannot be used; the message says why.
    """
    image = read_scan_image(scan, preprocessing, tiling.tile, options).image
    depth, height, width = image.shape[1:]
    boxes = tile_boxes((depth, height, width), tiling)
    chosen = np.unique(np.linspace(0, len(boxes) - 1, count).round().astype(int))
    return np.stack([image[(slice(None), *boxes[index])] for index in chosen.tolist()])


def phantom_tiles(
    normalization: Sequence[Normalization],
    tile: Triple,
    *,
    masks: int = 0,
    count: int = PHANTOM_COUNT,
    seed: int = 0,
) -> np.ndarray:
    """Make scan-like tiles after the package's normalisation.

    Parameters
    ----------
    normalization
        One entry for each channel.
    tile
        Number of voxels along depth, height and width.
    masks
        Number of further channels: masks of organs, as of a previous stage's labels.
    count, seed
        Number of tiles, and seed of their variety.

    Returns
    -------
    np.ndarray
        Shape (count, C + masks, *tile), float32; the same for the same arguments.

    Raises
    ------
    InputError
        A tile of that size does not fit into memory.
    """
    _check_phantoms(tile, count * (len(normalization) + masks))
    random = np.random.default_rng(seed)
    return np.stack(
        [_phantom(random, normalization, tile, masks, air=index > 0) for index in range(count)]
    )


def _check_phantoms(tile: Triple, channels: int) -> None:
    needed, free = math.prod(tile) * (_WORK_BYTES + 4 * channels), available_bytes()
    if needed > free:
        extents = " x ".join(map(str, tile))
        raise InputError(
            f"a phantom of the tile's {extents} voxels takes {-(-needed // MIB)} MiB, and "
            f"{free // MIB} MiB are free; check the patch size, or take a machine with more memory"
        )


def _phantom(
    random: np.random.Generator,
    normalization: Sequence[Normalization],
    tile: Triple,
    masks: int,
    *,
    air: bool,
) -> np.ndarray:
    # A tile of one slice shows the middle of the body.
    axes = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in tile)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    body = _ellipsoid(grid, random.uniform(-0.2, 0.2, 3), random.uniform(0.7, 1.1, 3))
    organs = [
        _ellipsoid(grid, random.uniform(-0.6, 0.6, 3), random.uniform(0.1, 0.4, 3))
        for _ in range(ORGAN_COUNT)
    ]
    image = np.empty((len(normalization) + masks, *tile), np.float32)
    image[len(normalization) :] = _masks(organs, masks, tile)
    for channel, scaling in zip(image, normalization, strict=False):
        contrast = _contrast(random, body, organs)
        scan = _intensities(contrast, scaling)
        if air and scaling.scheme == "ct" and scaling.lower is not None:
            scan = scaling.lower + (scan - scaling.lower) * body.astype(np.float32)
        channel[...] = normalize(scan, scaling, body > 0)
    return image


def _masks(organs: Sequence[np.ndarray], masks: int, tile: Triple) -> np.ndarray:
    """Return masks of organs, which share no voxel."""
    labels = np.zeros(tile, np.int64)
    for index, organ in enumerate(organs[:masks]):
        labels[organ > 0.5] = index + 1
    return np.stack([labels == index + 1 for index in range(masks)]) if masks else labels[None][:0]


def _contrast(
    random: np.random.Generator, body: np.ndarray, organs: Sequence[np.ndarray]
) -> np.ndarray:
    """Return one channel, float64: zero outside the body and mostly between 0 and 2 inside."""
    values = body * random.uniform(0.5, 1.0)
    for organ in organs:
        values = values + organ * body * random.uniform(-0.4, 0.8)
    for sigma, strength in ((1.0, 0.05), (4.0, 0.1)):
        texture = _blur(random.standard_normal(body.shape), sigma)
        values = values + body * texture / texture.std() * strength
    return values


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return values (D, H, W), float64, under a Gaussian cut off at 4 sigma, mirrored at borders.

    The order of the sums is that of SciPy, so that phantoms keep every bit.
    """
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    weights /= weights.sum()
    for axis in range(3):
        planes = np.moveaxis(values, axis, 0)
        padded = np.pad(planes, ((radius, radius), (0, 0), (0, 0)), mode="symmetric")
        rows = padded.reshape(len(padded), -1)
        blurred = rows[radius:-radius] * weights[radius]
        for start in range(0, rows.shape[1], _BLUR_COLUMNS):
            columns = slice(start, start + _BLUR_COLUMNS)
            for index, total in enumerate(blurred[:, columns]):
                near = rows[index : index + 2 * radius + 1, columns]
                for below, above, weight in zip(near, near[::-1], weights[:radius], strict=False):
                    total += (below + above) * weight
        values = np.moveaxis(blurred.reshape(planes.shape), 0, axis)
    return values


def _intensities(contrast: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Scale contrast to float32 in the units that `normalization` expects of a scan."""
    scan = contrast
    if normalization.scheme == "rgb01":
        scan = np.interp(contrast, (contrast.min(), contrast.max()), (0, 255))
    elif normalization.scheme in ("ct", "clip", "none"):
        mean, std = normalization.mean or 0.0, normalization.std or 1.0
        scan = (contrast - contrast.mean()) / contrast.std() * std + mean
    return scan.astype(np.float32)


def _ellipsoid(grid: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return one inside and zero outside an ellipsoid, with a rim a few voxels wide."""
    distance = np.sqrt((((grid.T - centre) / radii) ** 2).sum(-1)).T
    inside: np.ndarray = np.clip((1.05 - distance) / 0.1, 0, 1)
    return inside
