"""How a scan is looked at: which planes, which slices and which intensities.

Radiological convention: the patient's right on the left of a picture, anterior up or to
the left, superior up. What is shown depends on where voxels lie in the patient, not on
the order in which the file stores them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.scans.volume import ROBUST_PERCENTILES, regular_sample
from segmaformer.runtime.spec import Normalization

NOTICE = "Research use only. Not a medical device."
DISPLAY_ORIENTATION = "LPI"
"""Axes that run towards left, posterior and inferior need no mirroring."""


@dataclass(frozen=True)
class Plane:
    """Axes of a volume in LPI order that run right and down, and where those begin and end."""

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
    """Voxel of `labels` (X, Y, Z) whose three slices show much of what is not background.

    Each coordinate is the one nearest to the centroid among the slices that hold at
    least half as much as the fullest. Without any label it is the middle.
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
    """0.5th and 99.5th percentile of the voxels that are not zero; 0 and 1 if all are."""
    voxels = regular_sample(image)
    voxels = voxels[voxels != 0]
    if voxels.size == 0:
        return 0.0, 1.0
    lower, upper = np.percentile(voxels, ROBUST_PERCENTILES)
    return float(lower), float(upper)


def network_window(normalization: Normalization) -> tuple[float, float] | None:
    """Range that a CT network looks at, that of its organs in training; None for others."""
    if normalization.lower is None or normalization.upper is None:
        return None
    return normalization.lower, normalization.upper


def place_text(position_mm: np.ndarray, axis: int) -> str:
    """Position in RAS+ along one axis of the patient, such as ``I 15.0 mm``."""
    position = position_mm[axis]
    return f"{('LR', 'PA', 'IS')[axis][int(position >= 0)]} {abs(position):.1f} mm"
