"""A scanner's part: the resolution of an image, noise, and the curve of its intensities."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

Spacing = tuple[float, float, float]


def random_spacing(random: np.random.Generator) -> Spacing:
    """Draw the spacing of the acquired voxels in mm: cubes, or slices in any direction."""
    spacing = np.full(3, random.choice((1.0, random.uniform(1, 2))))
    if random.random() < 0.25:
        spacing[random.integers(3)] = random.uniform(2, 5)
    depth, height, width = (float(value) for value in spacing)
    return depth, height, width


def average(image: torch.Tensor, spacing_mm: Spacing) -> tuple[torch.Tensor, Spacing]:
    """Average an image of 1 mm over larger voxels, so that they hold parts of several structures.

    Parameters
    ----------
    image
        Shape (D, H, W), float32.
    spacing_mm
        Wanted spacing.

    Returns
    -------
    image, spacing_mm
        The image, whose border stays in place, and the spacing that fits a whole number of voxels.
    """
    whole = image.shape
    depth, height, width = (
        max(1, round(extent / wanted)) for extent, wanted in zip(whole, spacing_mm, strict=True)
    )
    averaged = F.interpolate(image[None, None], size=(depth, height, width), mode="area")[0, 0]
    return averaged, (whole[0] / depth, whole[1] / height, whole[2] / width)


def add_noise(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Add noise to all voxels that are not zero, and bend intensities by a gamma curve.

    Parameters
    ----------
    image
        Shape (D, H, W), float32, nowhere negative.

    Returns
    -------
    torch.Tensor
        Same shape, from 0 to 1.
    """
    noise = torch.from_numpy(random.standard_normal(image.shape, dtype=np.float32))
    noisy = noise.mul_(random.uniform(0, 0.05)).add_(image).clamp_(min=0).mul_(image > 0)
    unit = noisy.div_(noisy.amax().clamp(min=1e-6))
    return unit.pow_(float(np.exp(random.normal(0, 0.25))))
