"""Inputs of the comparisons with nnU-Net v2 and MONAI, step by step.

The scripts in ``data/`` that record what those two compute, and the tests that compare,
make the same inputs from the same seeds here. Axes are those of nnU-Net's arrays: depth,
height, width (z, y, x), channels first. Random numbers that a mathematical library had
part in are rounded, so that every machine has the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[2] / "data"
Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


def noise(seed: int, *shape: int) -> np.ndarray:
    """Draw independent integers with deviation 100, float32."""
    return np.random.default_rng(seed).normal(20, 100, shape).round().astype(np.float32)


# Cropping ---------------------------------------------------------------------------


def cropping_images() -> dict[str, np.ndarray]:
    """Return images (C, D, H, W) whose nonzero masks differ in kind."""
    distance = sum(axis**2 for axis in np.ogrid[-6:7, -7:7, -7:8])
    shell = ((distance > 4) & (distance < 30)).astype(np.float32)
    opened = shell.copy()
    opened[6, 7, :] = 0
    plug = np.zeros_like(shell)
    plug[6, 7, :] = -2
    corner = np.zeros((1, 4, 5, 6), np.float32)
    corner[0, 3, 0, 5] = 1e-30
    scattered = (np.random.default_rng(5).random((2, 9, 8, 7)) < 0.01).astype(np.float32)
    return {
        "cavity": shell[None],
        "open cavity": opened[None],
        "cavity closed by another channel": np.stack([opened, plug]),
        "corner": corner,
        "scattered": scattered,
        "full": noise(6, 3, 4, 5, 6) + 1000,
    }


# Normalisation ----------------------------------------------------------------------

CT_PROPERTIES = {
    "mean": 63.7,
    "std": 41.3,
    "percentile_00_5": -88.0,
    "percentile_99_5": 171.5,
}


def normalization_channels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return channels (D, H, W) and the masks for a z-score."""
    channel = noise(11, 9, 10, 11)
    mask = np.random.default_rng(12).random(channel.shape) < 0.4
    return {
        "plain": (channel, mask),
        "far from zero": (channel + 1_000_000, mask),
        "constant": (np.full_like(channel, 7), mask),
        "colour": (np.abs(channel).clip(0, 255), mask),
    }


NORMALIZATIONS = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale01",
    "RGBTo01Normalization": "rgb01",
}


# Resampling -------------------------------------------------------------------------


@dataclass(frozen=True)
class ResamplingCase:
    shape: Triple
    new_shape: Triple
    spacing: Spacing
    new_spacing: Spacing
    order: int = 3
    order_z: int = 0
    separate_z: bool | None = None
    threshold: float = 3.0

    def image(self) -> np.ndarray:
        return noise(sum(self.shape), 2, *self.shape)


_EVEN, _COARSE_Z = (1.0, 1.0, 1.0), (5.0, 1.0, 1.0)
RESAMPLING_CASES = {
    "up": ResamplingCase((9, 10, 11), (14, 17, 13), (2.0, 2.0, 1.5), _EVEN),
    "down": ResamplingCase((14, 13, 12), (7, 9, 5), _EVEN, (2.0, 1.5, 2.5)),
    "up and down": ResamplingCase((8, 14, 11), (13, 9, 11), (1.6, 0.6, 1.0), _EVEN),
    "unchanged": ResamplingCase((7, 8, 9), (7, 8, 9), _EVEN, _EVEN),
    "logits up": ResamplingCase((9, 10, 11), (14, 17, 13), _EVEN, (0.6, 0.6, 0.8), order=1),
    "logits down": ResamplingCase((14, 13, 12), (7, 9, 5), _EVEN, (2.0, 1.5, 2.5), order=1),
    "nearest": ResamplingCase((9, 10, 11), (14, 7, 11), _EVEN, _EVEN, order=0),
    "coarse depth": ResamplingCase((5, 12, 13), (17, 10, 16), _COARSE_Z, (1.5, 1.2, 0.8)),
    "coarse height": ResamplingCase((12, 5, 13), (10, 17, 16), (1.0, 5.0, 1.0), _EVEN),
    "coarse width": ResamplingCase((12, 13, 5), (10, 16, 17), (1.0, 1.0, 5.0), _EVEN),
    "coarse depth, linear": ResamplingCase((5, 12, 13), (17, 10, 16), _COARSE_Z, _EVEN, order_z=1),
    "coarse depth, cubic": ResamplingCase((5, 12, 13), (9, 10, 16), _COARSE_Z, _EVEN, order_z=3),
    "logits to coarse depth": ResamplingCase((17, 10, 16), (5, 12, 13), _EVEN, _COARSE_Z, order=1),
    "logits to coarse depth, linear": ResamplingCase(
        (17, 10, 16), (6, 12, 13), _EVEN, _COARSE_Z, order=1, order_z=1
    ),
    "depth stays": ResamplingCase((5, 12, 13), (5, 10, 16), _COARSE_Z, (5.0, 1.2, 0.8)),
    "only depth changes": ResamplingCase((6, 9, 10), (15, 9, 10), _COARSE_Z, (2.0, 1.0, 1.0)),
    "depth by a half, tied": ResamplingCase((8, 9, 10), (4, 9, 10), _EVEN, _COARSE_Z),
    "two coarse axes": ResamplingCase((5, 6, 13), (9, 11, 12), (4.0, 4.0, 1.0), _EVEN),
    "exactly at the threshold": ResamplingCase((6, 9, 10), (18, 9, 11), (3.0, 1.0, 1.0), _EVEN),
    "lower threshold": ResamplingCase((6, 9, 10), (13, 9, 11), (2.2, 1, 1), _EVEN, threshold=2.0),
    "forced": ResamplingCase((6, 9, 10), (13, 9, 11), (2.0, 1.0, 1.0), _EVEN, separate_z=True),
    "forced, linear": ResamplingCase(
        (6, 9, 10), (13, 9, 11), (2.0, 1.0, 1.0), _EVEN, 3, 1, separate_z=True
    ),
    "forced without a coarse axis": ResamplingCase(
        (6, 9, 10), (13, 9, 11), _EVEN, _EVEN, separate_z=True
    ),
    "forced, logits": ResamplingCase(
        (6, 9, 10), (13, 12, 11), (1.0, 1.0, 2.0), _EVEN, order=1, separate_z=True
    ),
    "forbidden": ResamplingCase((5, 9, 10), (17, 8, 11), _COARSE_Z, _EVEN, separate_z=False),
    "one slice": ResamplingCase((1, 12, 11), (1, 17, 9), _COARSE_Z, (5.0, 0.7, 1.2)),
    "one slice becomes four": ResamplingCase((1, 12, 11), (4, 9, 14), _COARSE_Z, _EVEN),
    "one slice, all together": ResamplingCase((1, 12, 11), (4, 9, 14), _EVEN, _EVEN),
    "to one slice": ResamplingCase((6, 9, 10), (1, 12, 11), _EVEN, (6.0, 0.8, 0.9)),
    "one column": ResamplingCase((7, 1, 1), (12, 1, 1), _EVEN, _EVEN),
}


def shape_cases() -> list[tuple[Triple, Spacing, Spacing]]:
    """Return shapes with two spacings, some of which meet a half voxel exactly."""
    rng = np.random.default_rng(21)
    cases = []
    for _ in range(300):
        shape = tuple(map(int, rng.integers(2, 600, 3)))
        old, new = rng.uniform(0.4, 6, (2, 3)).round(int(rng.integers(0, 6))).clip(0.5)
        cases.append((shape, tuple(map(float, old)), tuple(map(float, new))))
    return cases


# Tiles ------------------------------------------------------------------------------


def step_cases() -> list[tuple[int, int, float]]:
    """Return extents of at least a tile, tiles and steps."""
    rng = np.random.default_rng(31)
    cases = []
    for _ in range(400):
        tile = int(rng.integers(1, 200))
        extent = tile + int(rng.integers(0, 3 * tile) * rng.integers(0, 2))
        step = float(rng.choice([0.25, 0.3, 0.375, 0.5, 0.6, 0.75, 0.9, 1.0]))
        cases.append((extent, tile, step))
    return cases


def overlap_cases() -> list[tuple[Triple, Triple, float]]:
    """Return shapes of at least a tile, tiles and overlaps."""
    rng = np.random.default_rng(32)
    cases = []
    for _ in range(200):
        tile = rng.integers(1, 64, 3)
        shape = tile + rng.integers(0, 2 * tile) * rng.integers(0, 2, 3)
        overlap = float(rng.choice([0, 0.1, 0.25, 0.5, 0.6, 0.625, 0.7, 0.9]))
        cases.append((tuple(map(int, shape)), tuple(map(int, tile)), overlap))
    return cases


WEIGHT_TILES: dict[str, Triple] = {
    "even": (32, 32, 48),
    "odd": (7, 9, 11),
    "flat": (1, 20, 14),
    "long": (4, 4, 160),
}
BLENDING_TILE: Triple = (6, 8, 9)
BLENDING_SHAPES: dict[str, Triple] = {
    "one tile": (6, 8, 9),
    "larger": (13, 17, 21),
    "smaller": (3, 5, 4),
    "smaller along one axis": (11, 5, 14),
}
BLENDING_CHANNELS = 2


def ramp_network(tiles: Any) -> Any:
    """Compute logits (B, 2, *BLENDING_TILE) of tiles (B, 1, *BLENDING_TILE), arrays or tensors.

    A stand-in for a network that, like real ones, answers differently at every place of
    a tile and to mirrored tiles. Products and sums of few terms: no library rounds them
    differently.
    """
    ramps = noise(41, BLENDING_CHANNELS, *BLENDING_TILE) / 64
    if not isinstance(tiles, np.ndarray):
        import torch

        ramps = torch.from_numpy(ramps)
    return tiles * ramps + ramps


def blending_image(shape: Triple) -> np.ndarray:
    """Make an image (1, *shape) for :func:`ramp_network`."""
    return noise(42, 1, *shape) / 128


# Labels -----------------------------------------------------------------------------

LABEL_DATASETS: dict[str, dict[str, Any]] = {
    "labels": {"labels": {"background": 0, "a": 1, "b": 2, "c": 3}},
    "labels with ignore": {"labels": {"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4}},
    "regions": {
        "labels": {"background": 0, "whole": [1, 2, 3, 4], "core": [2, 3], "rim": 3, "node": [4]},
        "regions_class_order": [1, 2, 3, 4],
    },
    "regions in another order": {
        "labels": {"background": 0, "whole": [1, 2, 3, 4], "core": [2, 3], "rim": 3, "node": [4]},
        "regions_class_order": [3, 1, 4, 2],
    },
}


def label_logits() -> np.ndarray:
    """Make logits (4, 12, 13, 14) on a coarse scale, so that many are equal or zero."""
    return (noise(51, 4, 12, 13, 14) / 50).round()
