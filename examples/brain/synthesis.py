"""Synthetic scans of a label map, on the network's grid, and patches of them.

The steps are those of B. Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast
and resolution without retraining", Medical Image Analysis 86, 102789 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from acquisition import Spacing, add_noise, average, random_spacing
from brain_plans import PATCH, RECORD, SPACING_MM
from classes import AIR, BACKGROUND, CLASSES, FLUID
from contrast import paint, random_contrast
from deformation import deform
from label_maps import LabelMap, classes_of
from torch.nn import functional as F

from segmaformer.runtime.pipeline.normalization import normalize
from segmaformer.runtime.pipeline.resampling import resample
from segmaformer.runtime.pipeline.tiling import pad_to_tile

T1_SHARE = 0.8
STRIPPED_SHARE = 0.5
MASKED_SHARE = 0.3
"""Share of the scans with a skull whose air is exactly zero."""
FOREGROUND_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Head:
    """A synthetic scan on the network's grid.

    Attributes
    ----------
    image
        Normalised intensities (1, D, H, W), float32.
    labels
        Shape (D, H, W), uint8.
    """

    image: torch.Tensor = field(repr=False)
    labels: torch.Tensor = field(repr=False)


def synthesize(
    label_map: LabelMap,
    random: np.random.Generator,
    *,
    t1: bool | None = None,
    stripped: bool | None = None,
) -> Head:
    """Make a scan of a head.

    Parameters
    ----------
    random
        The scan depends on nothing else that is random.
    t1
        Keep a T1-weighted scan's order of intensities; None: in half of all scans.
    stripped
        Remove what lies outside the brain; None: in half of all scans.
    """
    structures = deform(label_map, random)
    draws = random.random(3)
    if stripped is None:
        stripped = bool(draws[0] < STRIPPED_SHARE)
    if t1 is None:
        t1 = bool(draws[1] < T1_SHARE)
    if stripped:
        structures = strip_skull(structures, random)
    masked = stripped or draws[2] < MASKED_SHARE
    if masked:
        structures = _crop_to_head(structures)
    contrast = random_contrast(random, t1=t1, masked=masked)
    image = paint(structures, contrast, random)
    image, spacing_mm = average(image, random_spacing(random))
    image = _prepared(add_noise(image, random), spacing_mm, structures.shape)
    return Head(image, majority(classes_of(structures)))


def _prepared(image: torch.Tensor, spacing_mm: Spacing, whole: torch.Size) -> torch.Tensor:
    """Bring an acquired image to the network's grid, as the package does."""
    spec = RECORD.preprocessing()
    scaled = normalize(image.numpy(), spec.normalization[0])
    depth, height, width = (extent // 2 for extent in whole)
    resampled = resample(
        scaled[None],
        (depth, height, width),
        spacing_mm=spacing_mm,
        new_spacing_mm=SPACING_MM,
        resampling=spec.resampling,
    )
    return torch.from_numpy(resampled)


def strip_skull(structures: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Turn what lies outside the brain into air, with the errors that a mask has.

    The fluid around the brain stays in part, and so does what lies close to the brain.
    """
    inside = classes_of(structures)
    brain = ((inside != BACKGROUND) & (inside != FLUID)).float()[None, None]
    coarse = F.avg_pool3d(brain, 6, ceil_mode=True)
    mask = F.interpolate(coarse, size=structures.shape, mode="trilinear")[0, 0]
    return structures.masked_fill(mask <= random.uniform(0.02, 0.5), AIR)


def _crop_to_head(structures: torch.Tensor) -> torch.Tensor:
    """Cut off air around the head, as the package cuts off zeros; extents stay even."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = (structures != AIR).any(others[1]).any(others[0]).nonzero()
        start, stop = int(filled[0]) // 2 * 2, -(-(int(filled[-1]) + 1) // 2) * 2
        box.append(slice(start, stop))
    return structures[tuple(box)].contiguous()


def majority(classes: torch.Tensor) -> torch.Tensor:
    """Give each 2 mm voxel the class that most of its eight 1 mm voxels have, the lower if tied."""
    depth, height, width = classes.shape
    # Four bits a class count its voxels, so that all classes are counted at once.
    ones = torch.tensor([1 << 4 * value for value in CLASSES.values()])[classes.int()]
    packed = ones.view(depth // 2, 2, height // 2, 2, width // 2, 2).sum((1, 3, 5))
    counts = torch.stack([(packed >> 4 * value) & 15 for value in CLASSES.values()])
    return counts.to(torch.uint8).argmax(0).to(torch.uint8)


def random_patch(head: Head, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a patch out of a scan, half of them around a voxel of a class that is drawn first.

    Returns
    -------
    image, labels
        Shapes (1, *PATCH), float32, and PATCH, int64. Voxels outside the scan are zero.
    """
    image, labels = (
        pad_to_tile(array.numpy(), PATCH)[0] for array in (head.image, head.labels[None])
    )
    spare = np.subtract(labels.shape[1:], PATCH, dtype=np.int64)
    start = random.integers(0, spare, endpoint=True)
    if random.random() < FOREGROUND_SHARE:
        present = np.unique(labels)
        places = np.argwhere(labels[0] == random.choice(present[present != BACKGROUND]))
        start = (places[random.integers(len(places))] - np.array(PATCH) // 2).clip(0, spare)
    box = tuple(slice(s, s + p) for s, p in zip(start.tolist(), PATCH, strict=True))
    return torch.from_numpy(image[(slice(None), *box)]), torch.from_numpy(labels[0][box]).long()
