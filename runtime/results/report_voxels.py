"""Packing of a scan and its labels into text that a browser can unpack.

Intensities become one byte each, labels one or two; both are deflated and encoded in base64. If a
page cannot hold them, voxels are averaged in blocks.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.scans.volume import regular_sample
from segmaformer.runtime.spec import Triple

LEVELS = 256
MOST_VOXELS = 100_000_000
"""Largest number of voxels: a browser holds them unpacked, two or three bytes each."""

# Share of the levels for the window that is shown first; the range around it gets the rest.
_WINDOW_SHARE = 0.65
_RANGE_PERCENTILES = (0.1, 99.9)
# Spacings within this ratio of the finest are coarsened together, so that a grid of equal
# spacings keeps them.
_SAME_SPACING = 1.3


@dataclass(frozen=True)
class IntensityScale:
    """256 levels of intensity, dense inside a window and sparse around it.

    Attributes
    ----------
    intensities
        Lowest intensity, lower and upper end of the window, highest intensity.
    levels
        Level, from 0 to 255, of each of these; linear in between.
    """

    intensities: tuple[float, float, float, float]
    levels: tuple[float, float, float, float]

    @classmethod
    def fit(cls, image: np.ndarray, window: tuple[float, float]) -> IntensityScale:
        """Make a scale for `window` and for almost all intensities of `image` (X, Y, Z)."""
        lower, upper = window
        if not upper > lower:
            upper = lower + 1.0
        lowest, highest = np.percentile(regular_sample(image), _RANGE_PERCENTILES)
        below, above = max(0.0, lower - float(lowest)), max(0.0, float(highest) - upper)
        outside = (1 - _WINDOW_SHARE) * (LEVELS - 1) if below + above else 0.0
        first = outside * below / (below + above) if outside else 0.0
        last = first + LEVELS - 1 - outside
        return cls((lower - below, lower, upper, upper + above), (0, first, last, LEVELS - 1))

    def encode(self, intensities: np.ndarray) -> np.ndarray:
        """Return the nearest level of each intensity, uint8."""
        levels = np.interp(intensities, self.intensities, self.levels)
        return np.asarray(levels.round().astype(np.uint8))

    def table(self) -> list[float]:
        """Return the intensity of each level."""
        found: list[float] = np.interp(np.arange(LEVELS), self.levels, self.intensities).tolist()
        return found


@dataclass(frozen=True)
class PackedVoxels:
    """Voxels as base64 of a zlib stream, the first axis fastest.

    Attributes
    ----------
    shape
        Shape of the packed grid.
    factors
        Number of the scan's voxels along each axis in one packed voxel.
    image
        Intensity levels, one byte each.
    labels
        Index of each label in the sorted values; background is 0.
    label_bytes
        Bytes of a label: 1 or 2, little-endian.
    """

    shape: Triple
    factors: Triple
    image: bytes
    labels: bytes
    label_bytes: int


def pack_voxels(
    image: np.ndarray,
    labels: np.ndarray,
    scale: IntensityScale,
    *,
    spacing_mm: Sequence[float],
    budget_bytes: int,
) -> PackedVoxels:
    """Pack a scan, averaged in the smallest blocks that fit `budget_bytes` of base64.

    A block has the mean of its intensities and the label of its middle voxel (the later one of
    two). The axes with the finest spacing are averaged first.

    Parameters
    ----------
    image, labels
        Intensities and unsigned integers (X, Y, Z), in the order of display.
    scale
        Levels for the intensities.
    spacing_mm
        Spacing along X, Y and Z in mm.
    budget_bytes
        Limit for image and labels together, in bytes.

    Raises
    ------
    ValueError
        Not even one voxel fits the budget.
    """
    x, y, z = labels.shape
    factors: Triple = (1, 1, 1)
    while True:
        if math.prod(_blocks((x, y, z), factors)) <= MOST_VOXELS:
            packed = _pack(image, labels, scale, factors, budget_bytes)
            if packed is not None:
                return packed
        if _blocks((x, y, z), factors) == (1, 1, 1):
            raise ValueError(f"{budget_bytes} bytes cannot hold one voxel; expected some thousands")
        factors = _coarser((x, y, z), factors, spacing_mm)


def middle_voxels(extent: int, factor: int) -> np.ndarray:
    """Return the indices of the voxels that give each block of `factor` voxels its label."""
    blocks = -(-extent // factor)
    return np.minimum(np.arange(blocks) * factor + factor // 2, extent - 1)


def _pack(
    image: np.ndarray,
    labels: np.ndarray,
    scale: IntensityScale,
    factors: Triple,
    budget_bytes: int,
) -> PackedVoxels | None:
    """Pack with these factors; give up as soon as the budget is spent."""
    x, y, z = labels.shape
    label_planes, label_bytes = _label_planes(labels, factors)
    packed_labels = _deflated(label_planes, budget_bytes)
    if packed_labels is None:
        return None
    levels = (scale.encode(plane) for plane in _mean_planes(image, factors))
    packed_image = _deflated(levels, budget_bytes - len(packed_labels))
    if packed_image is None:
        return None
    shape = _blocks((x, y, z), factors)
    return PackedVoxels(shape, factors, packed_image, packed_labels, label_bytes)


def _deflated(planes: Iterator[np.ndarray], budget_bytes: int) -> bytes | None:
    """Compress planes (X, Y) and encode them in base64; None if that exceeds the budget."""
    stream, most_bytes = bytearray(), budget_bytes // 4 * 3
    compressor = zlib.compressobj()
    for plane in planes:
        stream += compressor.compress(plane.tobytes(order="F"))
        if len(stream) > most_bytes:
            return None
    stream += compressor.flush()
    return base64.b64encode(stream) if len(stream) <= most_bytes else None


def _label_planes(labels: np.ndarray, factors: Triple) -> tuple[Iterator[np.ndarray], int]:
    """Return planes (X, Y) of indices in the sorted values, and the bytes of each number."""
    present = np.zeros(int(labels.max()) + 1, bool)
    for plane in labels:
        present[plane] = True
    present[0] = False
    position = np.cumsum(present) * present
    dtype = np.dtype("u1" if position.max() < LEVELS else "<u2")
    position = position.astype(dtype)
    across, down, through = (
        middle_voxels(extent, factor) for extent, factor in zip(labels.shape, factors, strict=True)
    )
    rows = across[:, None]
    return (position[labels[rows, down, index]] for index in through), dtype.itemsize


def _mean_planes(image: np.ndarray, factors: Triple) -> Iterator[np.ndarray]:
    """Yield planes (X, Y) of block means; blocks at the far border may be smaller."""
    for start in range(0, image.shape[2], factors[2]):
        plane = image[:, :, start : start + factors[2]].mean(axis=2, dtype=np.float64)
        for axis in (0, 1):
            plane = _block_means(plane, axis, factors[axis])
        yield plane


def _block_means(plane: np.ndarray, axis: int, factor: int) -> np.ndarray:
    if factor == 1:
        return plane
    starts = np.arange(0, plane.shape[axis], factor)
    counts = np.diff(np.append(starts, plane.shape[axis]))
    sums = np.add.reduceat(plane, starts, axis)
    return np.asarray(sums / np.expand_dims(counts, 1 - axis))


def _blocks(shape: Triple, factors: Triple) -> Triple:
    x, y, z = (-(-extent // factor) for extent, factor in zip(shape, factors, strict=True))
    return x, y, z


def _coarser(shape: Triple, factors: Triple, spacing_mm: Sequence[float]) -> Triple:
    """Enlarge the blocks by one voxel along the axes that are finest now."""
    spacing = np.array(spacing_mm) * factors
    divisible = np.array(factors) < shape
    finest = spacing[divisible].min()
    x, y, z = np.array(factors) + (divisible & (spacing <= finest * _SAME_SPACING))
    return int(x), int(y), int(z)
