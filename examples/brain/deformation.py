"""Random field of view and deformation of a label map."""

from __future__ import annotations

import math

import numpy as np
import torch
from classes import AIR
from label_maps import LabelMap
from torch.nn import functional as F

LARGEST_ANGLE = math.radians(15)
SCALES = (0.85, 1.18)
LARGEST_SHEAR = 0.1
CONTROL_POINTS = (5, 9)
LARGEST_DEVIATION_MM = 3.0
SMALLEST_MARGIN_MM = 4.0


def random_field(label_map: LabelMap, random: np.random.Generator) -> np.ndarray:
    """Draw the field of view: a box around the brain that the head's borders limit.

    Returns
    -------
    ndarray
        First voxels and those after the last, shape (2, 3), float64.
    """
    start, stop = label_map.brain.astype(np.float64)
    start, stop = start - SMALLEST_MARGIN_MM, stop + SMALLEST_MARGIN_MM
    whole = np.array(label_map.structures.shape)
    cut = random.uniform(0, 1, (2, 3)) * random.integers(0, 2, (2, 3))
    return np.stack(
        (
            cut[0] * start + (1 - cut[0]) * np.minimum(0, start),
            cut[1] * stop + (1 - cut[1]) * np.maximum(whole, stop),
        )
    )


def deform(label_map: LabelMap, random: np.random.Generator) -> torch.Tensor:
    """Rotate, scale, shear, mirror and warp a head, and cut out a field of view.

    Returns
    -------
    torch.Tensor
        Structures at 1 mm, uint8, with even extents.
    """
    field = random_field(label_map, random)
    scales = np.exp(random.uniform(*np.log(SCALES)) + random.uniform(-0.05, 0.05, 3))
    depth, height, width = (int(2 * round(n / 2)) for n in (field[1] - field[0]) / scales)
    shape = (depth, height, width)
    matrix = _random_rotation(random) @ _random_shear(random) @ np.diag(scales)
    if random.random() < 0.5:
        matrix[:, 2] *= -1
    warp = _random_warp(shape, random)
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    down, forward, across = axes[0][:, None, None], axes[1][:, None], axes[2]
    source = label_map.structures
    index = torch.zeros(shape, dtype=torch.int32)
    inside = torch.ones(shape, dtype=torch.bool)
    for axis, extent in enumerate(source.shape):
        row = matrix[axis].tolist()
        place = warp[axis].add_(row[0] * down + row[1] * forward).add_(row[2] * across)
        voxel = place.add_(float(field[:, axis].mean()) - 0.5).round_().int()
        inside &= (voxel >= 0) & (voxel < extent)
        index.mul_(extent).add_(voxel.clamp_(0, extent - 1))
    return source.flatten()[index].masked_fill_(~inside, AIR)


def _random_rotation(random: np.random.Generator) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(random.uniform(-LARGEST_ANGLE, LARGEST_ANGLE, 3)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix


def _random_shear(random: np.random.Generator) -> np.ndarray:
    return np.eye(3) + np.triu(random.uniform(-LARGEST_SHEAR, LARGEST_SHEAR, (3, 3)), 1)


def _random_warp(shape: tuple[int, int, int], random: np.random.Generator) -> torch.Tensor:
    """Draw smooth displacements in mm, shape (3, *shape)."""
    points = random.integers(CONTROL_POINTS[0], CONTROL_POINTS[1], endpoint=True)
    deviation = random.uniform(0, LARGEST_DEVIATION_MM)
    knots = deviation * random.standard_normal((1, 3, *(points,) * 3), dtype=np.float32)
    return F.interpolate(torch.from_numpy(knots), size=shape, mode="trilinear", align_corners=True)[
        0
    ]
