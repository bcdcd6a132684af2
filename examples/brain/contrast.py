"""Random contrast of the structures, and intensities drawn from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from classes import AIR, STRUCTURES
from torch.nn import functional as F

LARGEST_BIAS = 0.4


@dataclass(frozen=True, eq=False)
class Contrast:
    """Mean and deviation of every structure's intensities, by index; about 0 to 1."""

    means: np.ndarray
    deviations: np.ndarray


def random_contrast(random: np.random.Generator, *, t1: bool, masked: bool) -> Contrast:
    """Draw a contrast.

    Parameters
    ----------
    t1
        Keep the order of a T1-weighted scan inside the brain: fluid is darkest, white matter
        brightest. Otherwise, and outside the brain, every structure has any brightness.
    masked
        Make air exactly zero.
    """
    count = len(STRUCTURES)
    means = random.uniform(0.05, 0.95, count)
    deviations = random.uniform(0.01, 0.1, count)
    if t1:
        fluid = random.uniform(0.05, 0.3)
        grey = fluid + random.uniform(0.12, 0.4)
        white = grey + random.uniform(0.1, 0.35)
        own = random.normal(0, 0.02, count)
        for index, structure in enumerate(STRUCTURES):
            if structure.t1 is not None:
                means[index] = np.interp(structure.t1, (0, 1, 2), (fluid, grey, white)) + own[index]
                deviations[index] = random.uniform(0.01, 0.06)
    means[AIR] = 0 if masked else random.uniform(0, 0.1)
    deviations[AIR] = 0 if masked else random.uniform(0, 0.03)
    return Contrast(means, deviations)


def paint(
    structures: torch.Tensor, contrast: Contrast, random: np.random.Generator
) -> torch.Tensor:
    """Draw the intensity of every voxel, and multiply by a smooth bias field.

    Parameters
    ----------
    structures
        Shape (D, H, W), uint8.

    Returns
    -------
    torch.Tensor
        Same shape, float32, nowhere negative; 0 where mean and deviation are 0.
    """
    index = structures.int()
    noise = torch.from_numpy(random.standard_normal(structures.shape, dtype=np.float32))
    means, deviations = (
        torch.from_numpy(values.astype(np.float32))
        for values in (contrast.means, contrast.deviations)
    )
    image = noise.mul_(deviations[index]).add_(means[index]).clamp_(min=0)
    return image.mul_(_bias_field(structures.shape, random))


def _bias_field(shape: torch.Size, random: np.random.Generator) -> torch.Tensor:
    """Draw a smooth positive factor of every voxel."""
    knots = random.uniform(0, LARGEST_BIAS) * random.standard_normal((1, 1, 4, 4, 4))
    return F.interpolate(
        torch.from_numpy(knots.astype(np.float32)), size=shape, mode="trilinear", align_corners=True
    )[0, 0].exp_()
