"""Scores of one segmentation against another: Dice, HD95 in millimetres, volumes.

The 95th percentile of the Hausdorff distance is the larger of both directions', between the
outermost voxels of each mask; definitions that pool both directions or weigh voxels by surface area
give other figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmaformer.runtime.bindings.distance_map import distance_map
from segmaformer.runtime.results.statistics import MM3_PER_ML
from segmaformer.runtime.spec import Box, Output, Spacing

PERCENTILE = 95


@dataclass(frozen=True)
class Scores:
    """Agreement of one structure in a found and a true label map.

    Attributes
    ----------
    dice
        From 0 to 1; 0 if one map lacks the structure. None if both do: there is nothing to find,
        and 1 would only raise a mean.
    hd95_mm
        95th percentile of the Hausdorff distance in mm; None if a map lacks the structure.
    found_ml, truth_ml
        Volumes of the structure in millilitres.
    """

    dice: float | None
    hd95_mm: float | None
    found_ml: float
    truth_ml: float

    @property
    def volume_error_ml(self) -> float:
        """Found minus true volume, in millilitres."""
        return self.found_ml - self.truth_ml

    @property
    def volume_error_percent(self) -> float | None:
        """Found minus true volume in per cent of the true one; None if that is zero."""
        return 100 * self.volume_error_ml / self.truth_ml if self.truth_ml else None

    def record(self) -> dict[str, Any]:
        """Convert the scores to a dictionary for JSON."""
        return {
            "dice": self.dice,
            "hd95_mm": self.hd95_mm,
            "volume_error_ml": self.volume_error_ml,
            "volume_error_percent": self.volume_error_percent,
            "found_ml": self.found_ml,
            "truth_ml": self.truth_ml,
        }


def structures(output: Output) -> dict[str, tuple[int, ...]]:
    """Return the label values of each structure to score: all labels but background, or regions."""
    if output.regions:
        return {region.name: region.labels for region in output.regions}
    return {label.name: (label.value,) for label in output.labels if label.value != 0}


def score_labels(
    found: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Spacing,
    wanted: Mapping[str, Sequence[int]],
) -> dict[str, Scores]:
    """Score several structures of one case.

    Parameters
    ----------
    found, truth
        Label maps of one shape (X, Y, Z).
    spacing_mm
        Distance of voxels along each axis in mm; axes are taken as perpendicular.
    wanted
        Label values of each structure, from :func:`structures`.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    return {
        name: score(np.isin(found, values), np.isin(truth, values), spacing_mm)
        for name, values in wanted.items()
    }


def score(found: np.ndarray, truth: np.ndarray, spacing_mm: Spacing) -> Scores:
    """Score one structure.

    Parameters
    ----------
    found, truth
        Masks of one shape (X, Y, Z), bool.
    spacing_mm
        Distance of voxels along each axis in mm.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if found.shape != truth.shape:
        raise ValueError(f"the found mask has shape {found.shape}; the true one {truth.shape}")
    voxel_ml = float(np.prod(spacing_mm)) / MM3_PER_ML
    found_voxels, true_voxels = int(found.sum()), int(truth.sum())
    total = found_voxels + true_voxels
    return Scores(
        dice=2 * int((found & truth).sum()) / total if total else None,
        hd95_mm=hd95(found, truth, spacing_mm) if found_voxels and true_voxels else None,
        found_ml=found_voxels * voxel_ml,
        truth_ml=true_voxels * voxel_ml,
    )


def hd95(a: np.ndarray, b: np.ndarray, spacing_mm: Spacing) -> float:
    """Compute the 95th percentile of the Hausdorff distance of two masks, in millimetres.

    Parameters
    ----------
    a, b
        Masks of one shape (X, Y, Z), bool, neither of them empty.
    spacing_mm
        Distance of voxels along each axis in mm.

    Raises
    ------
    ValueError
        A mask is empty.
    """
    if not (a.any() and b.any()):
        raise ValueError("a mask is empty; expected two with voxels to measure between")
    # Both distances depend only on the box around both masks.
    box = _box(a | b)
    surfaces = [_surface(mask[box]) for mask in (a, b)]
    directed = [
        np.percentile(distance_map(surface, spacing_mm)[other], PERCENTILE)
        for surface, other in (surfaces, surfaces[::-1])
    ]
    return float(max(directed))


def _box(mask: np.ndarray) -> Box:
    """Return the smallest box around a mask that is not empty."""
    places = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    x, y, z = (slice(int(along[0]), int(along[-1]) + 1) for along in places)
    return x, y, z


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the voxels with one of their six neighbours outside the mask or the array."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    surface: np.ndarray = mask & ~inner
    return surface
