"""Random patches of a prepared case: place, rotation, scale, mirroring and intensities."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F
from training_plans import MIRROR_AXES, PATCH

LARGEST_ANGLE = math.radians(30)
SCALES = (0.75, 1.35)
FOREGROUND_SHARE = 0.5


class Chance:
    """Draws from one seeded generator."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        """Draw evenly between two numbers."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def hits(self, probability: float) -> bool:
        """Return True in this share of draws."""
        return self.uniform(0, 1) < probability

    def index(self, count: int) -> int:
        """Draw a whole number from 0 to `count` - 1."""
        return int(torch.randint(count, (), generator=self.generator))

    def noise_like(self, image: torch.Tensor) -> torch.Tensor:
        """Draw normal noise of deviation 1 in the shape of `image`."""
        return torch.randn(image.shape, generator=self.generator)


def random_patch(
    image: torch.Tensor, labels: torch.Tensor, chance: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut an augmented patch out of a case.

    Parameters
    ----------
    image
        Normalised intensities (1, D, H, W); D is at most the patch's.
    labels
        Shape (D, H, W), uint8.

    Returns
    -------
    image, labels
        Shapes (1, *PATCH), float32, and PATCH, int64. Voxels outside the case are zero.
    """
    grid = _plane_grid(labels, chance)
    planes = image.transpose(0, 1)  # slices are the batch: they lie too far apart to be turned
    cut = F.grid_sample(planes, grid, align_corners=False).transpose(0, 1)
    values = labels[:, None].float()
    truth = F.grid_sample(values, grid, mode="nearest", align_corners=False)[:, 0].long()
    missing = PATCH[0] - len(labels)
    padding = (0, 0, 0, 0, missing // 2, missing - missing // 2)
    cut, truth = F.pad(_changed_intensities(cut, chance), padding), F.pad(truth, padding)
    mirrored = [axis for axis in MIRROR_AXES if chance.hits(0.5)]
    return cut.flip([1 + axis for axis in mirrored]), truth.flip(mirrored)


def _plane_grid(labels: torch.Tensor, chance: Chance) -> torch.Tensor:
    """Return places in grid_sample's coordinates, the same for every slice: (D, *PATCH[1:], 2)."""
    extents = labels.shape[1:]
    centre = [_centre(extent, PATCH[1 + axis], chance) for axis, extent in enumerate(extents)]
    if chance.hits(FOREGROUND_SHARE) and (labels > 0).any():
        marked = (labels > 0).any(0).nonzero()
        voxel = marked[chance.index(len(marked))].tolist()
        centre = [_inside(v, e, p) for v, e, p in zip(voxel, extents, PATCH[1:], strict=True)]
    angle = chance.uniform(-LARGEST_ANGLE, LARGEST_ANGLE) if chance.hits(0.4) else 0.0
    scale = math.exp(chance.uniform(*map(math.log, SCALES))) if chance.hits(0.4) else 1.0
    down, right = (torch.arange(p) - (p - 1) / 2 for p in PATCH[1:])
    sine, cosine = scale * math.sin(angle), scale * math.cos(angle)
    rows = cosine * down[:, None] - sine * right + centre[0]
    columns = sine * down[:, None] + cosine * right + centre[1]
    height, width = extents
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
    return grid.expand(len(labels), -1, -1, -1)


def _centre(extent: int, patch: int, chance: Chance) -> float:
    """Draw the centre of a patch that lies inside, or around the whole extent."""
    spare = extent - patch
    return (patch - 1) / 2 + (chance.index(spare + 1) if spare > 0 else spare // 2)


def _inside(voxel: int, extent: int, patch: int) -> float:
    """Return the centre nearest to `voxel` of a patch that lies inside."""
    spare = extent - patch
    start = spare // 2 if spare <= 0 else min(max(voxel - patch // 2, 0), spare)
    return (patch - 1) / 2 + start


def _changed_intensities(image: torch.Tensor, chance: Chance) -> torch.Tensor:
    if chance.hits(0.3):
        low, high = image.aminmax()
        extent = (high - low).clamp(min=1e-6)
        unit = (image - low) / extent
        image = unit ** chance.uniform(0.7, 1.5) * extent + low
    if chance.hits(0.3):
        image = image * chance.uniform(0.75, 1.25)
    if chance.hits(0.3):
        image = image + chance.uniform(-0.2, 0.2)
    if chance.hits(0.15):
        image = image + chance.uniform(0, 0.3) * chance.noise_like(image)
    return image
