"""Planes, slices and intensities in which a scan is shown.

Radiological convention: the patient's right on the left of a picture, anterior up or to the left,
superior up. The planes follow the voxels' place in the patient, not the order in which the file
stores them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.scans.volume import ROBUST_PERCENTILES, regular_sample
from segmaformer.runtime.spec import Normalization

NOTICE = "Research use only. Not a medical device."
DISPLAY_ORIENTATION = "LPI"
"""Axis codes of display: axes towards left, posterior and inferior need no mirroring."""


@dataclass(frozen=True)
class Plane:
    """Axes of a volume in LPI order that run right and down, and the letters at their ends."""

    name: str
    across: int
    down: int
    left: str
    right: str
    top: str
    bottom: str

    @property
    def through(self) -> int:
        """Axis that the plane cuts across."""
        return 3 - self.across - self.down


PLANES = (
    Plane("Axial", 0, 1, "R", "L", "A", "P"),
    Plane("Coronal", 0, 2, "R", "L", "S", "I"),
    Plane("Sagittal", 1, 2, "A", "P", "S", "I"),
)


def telling_centre(labels: np.ndarray) -> tuple[int, ...]:
    """Return the voxel of `labels` (X, Y, Z) whose three slices show much of the labels.

    Each coordinate is the one nearest to the centroid among the slices that hold at least half as
    much as the fullest. Without any label it is the middle.
    """
    foreground = labels != 0
    if not foreground.any():
        return tuple(extent // 2 for extent in labels.shape)
    centre = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.count_nonzero(foreground, axis=others)
        centroid = np.average(np.arange(len(filled)), weights=filled)
        well_filled = np.flatnonzero(2 * filled >= filled.max())
        centre.append(int(well_filled[np.abs(well_filled - centroid).argmin()]))
    return tuple(centre)


def robust_window(image: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile of nonzero voxels (X, Y, Z); 0 and 1 without any."""
    voxels = regular_sample(image)
    voxels = voxels[voxels != 0]
    if voxels.size == 0:
        return 0.0, 1.0
    lower, upper = np.percentile(voxels, ROBUST_PERCENTILES)
    return float(lower), float(upper)


def network_window(normalization: Normalization) -> tuple[float, float] | None:
    """Return the range of intensities that a CT network uses; None for others."""
    if normalization.lower is None or normalization.upper is None:
        return None
    return normalization.lower, normalization.upper


def place_text(position_mm: np.ndarray, axis: int) -> str:
    """Write a position (3,) in RAS+ along one axis of the patient, such as ``I 15.0 mm``."""
    position = position_mm[axis]
    return f"{('LR', 'PA', 'IS')[axis][int(position >= 0)]} {abs(position):.1f} mm"
