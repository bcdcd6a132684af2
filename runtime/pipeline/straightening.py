"""Straightening of a tilted series for a network, and the way back.

Where the gantry was tilted, every image lies shifted in its own plane against the one before. On
the straight grid the images are where they were, each shifted back; so only whole rows and columns,
and for shifts between them two neighbours, are needed.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.scans.dicom.series import DicomSeries
from segmaformer.runtime.scans.volume import Affine, Volume
from segmaformer.runtime.spec import Triple

Element = TypeVar("Element", bound=np.generic)

LEAST_TILT_DEGREES = 0.5
"""Tilt from which a series is straightened: below, a sheared cube of 100 mm is 0.9 mm off."""

_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Straightening:
    """A right-angled grid that holds all images of a sheared one.

    Attributes
    ----------
    shape, affine
        Shape and affine (4, 4) of the straight grid; its third axis runs along the normal of the
        first two.
    shifts
        Voxels (Z, 2), at least 0, by which each image lies further along the first two axes of the
        straight grid than along those of the sheared one.
    sheared_shape
        Shape of the sheared grid.
    """

    shape: Triple
    affine: Affine
    shifts: npt.NDArray[np.float64]
    sheared_shape: Triple

    def straight(self, volume: Volume) -> Volume:
        """Return the volume on the straight grid, linear between voxels of an image.

        Beyond an image its border goes on, so that the intensities' mean and spread stay alike.
        """
        channels = len(volume.voxels)
        x, y, z = self.shape
        voxels = np.empty((channels, z, y, x), np.float32).transpose(0, 3, 2, 1)
        for channel, sheared in zip(voxels, volume.voxels, strict=True):
            for index, (along_x, along_y) in enumerate(self.shifts):
                image = _shifted(sheared[:, :, index], along_x)
                image = _shifted(image.T, along_y).T
                before = int(along_x), int(along_y)
                after = x - before[0] - image.shape[0], y - before[1] - image.shape[1]
                channel[:, :, index] = np.pad(image, [*zip(before, after, strict=True)], "edge")
        return dataclasses.replace(volume, voxels=voxels, affine=self.affine, header=None)

    def straight_labels(self, labels: npt.NDArray[Element]) -> npt.NDArray[Element]:
        """Return labels (X, Y, Z) on the straight grid: the nearest ones, 0 beyond an image."""
        result = np.zeros(self.shape, labels.dtype)
        columns, rows, _ = self.sheared_shape
        for index, (x, y) in enumerate(np.floor(self.shifts + 0.5).astype(int).tolist()):
            result[x : x + columns, y : y + rows, index] = labels[:, :, index]
        return result

    def sheared(self, values: npt.NDArray[Element]) -> npt.NDArray[Element]:
        """Return a map (X, Y, Z) of the straight grid at the voxels of the sheared one.

        Labels are those of the nearest voxel, floating-point values linear between two.
        """
        columns, rows, count = self.sheared_shape
        result = np.empty((count, rows, columns), values.dtype).transpose(2, 1, 0)
        for index, (along_x, along_y) in enumerate(self.shifts):
            image: Any = values[:, :, index]
            image = _sampled(image, along_x, columns)
            result[:, :, index] = _sampled(image.T, along_y, rows).T
        return result


def straight_within(
    volume: Volume, straightening: Straightening | None, budget_bytes: int
) -> Volume:
    """Return a volume on its straight grid; as it is, if there is none.

    Raises
    ------
    BudgetError
        Both need more memory than `budget_bytes`.
    """
    if straightening is None:
        return volume
    voxels = math.prod(straightening.shape) * len(volume.voxels)
    needed = volume.voxels.nbytes + voxels * volume.voxels.itemsize
    if needed > budget_bytes:
        raise BudgetError("the voxels and those straightened", budget_bytes, needed)
    return straightening.straight(volume)


def find_straightening(volume: Volume) -> Straightening | None:
    """Return the straightening of a tilted DICOM series; None for any other scan."""
    series = volume.header
    if not isinstance(series, DicomSeries) or series.tilt_degrees < LEAST_TILT_DEGREES:
        return None
    return straightening(volume.affine, volume.shape)


def straightening(affine: Affine, shape: Triple) -> Straightening:
    """Find the right-angled grid for a sheared affine (4, 4) whose first two axes are square."""
    first, second, step = affine[:3, :3].T
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    # A step is a gap along the normal, and a shift of so many voxels in the plane.
    *shift, gap_mm = np.linalg.solve(np.stack([first, second, normal], axis=1), step)
    shifts = np.arange(shape[2])[:, None] * np.array(shift)
    origin = np.floor(shifts.min(axis=0) + _ROUNDING)
    shifts = np.maximum(shifts - origin, 0)
    nearest = np.rint(shifts)
    shifts = np.where(np.abs(shifts - nearest) < _ROUNDING, nearest, shifts)
    more = np.ceil(shifts.max(axis=0)).astype(int)
    straight = affine.copy()
    straight[:3, 2] = gap_mm * normal
    straight[:3, 3] += affine[:3, :2] @ origin
    x, y, z = shape
    return Straightening((x + int(more[0]), y + int(more[1]), z), straight, shifts, shape)


def _shifted(image: npt.NDArray[np.float32], shift: float) -> npt.NDArray[np.float32]:
    """Return an image between the rows of another, by the part of a shift below one."""
    part = np.float32(shift % 1)
    if not part:
        return image
    padded = np.concatenate([image[:1], image, image[-1:]])
    return np.asarray((1 - part) * padded[1:] + part * padded[:-1])


def _sampled(image: npt.NDArray[Element], shift: float, count: int) -> npt.NDArray[Element]:
    """Return `count` rows of an image from a shift on."""
    if not np.issubdtype(image.dtype, np.floating):
        first = int(np.floor(shift + 0.5))
        return image[first : first + count]
    first, part = int(shift), shift % 1
    lower: Any = image[first : first + count]
    if not part:
        return lower
    upper: Any = image[first + 1 : first + 1 + count]
    return np.asarray((1 - part) * lower + part * upper, image.dtype)
