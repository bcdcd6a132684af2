"""Order and place of images that lie one behind the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.errors import GeometryError
from segmaformer.runtime.scans.dicom.image_file import Plane
from segmaformer.runtime.scans.volume import Affine, flip_world

MOST_TILT_DEGREES = 45.0
"""Largest angle between the step from image to image and their normal."""

# Images nearer than this along their normal lie at one position.
_LEAST_GAP_MM = 1e-3
# A position may differ from the even step by this share of it, or by what rounded texts leave.
_STEP_TOLERANCE = 0.01
_ROUNDING_MM = 0.02


@dataclass(frozen=True, eq=False)
class Stack:
    """Images in order, and their place.

    Attributes
    ----------
    planes
        Images in order of position along their normal.
    affine
        Matrix (4, 4) from indices (column, row, image) to millimetres along right, anterior and
        superior.
    tilt_degrees
        Angle between the step from image to image and the normal.
    """

    planes: tuple[Plane, ...]
    affine: Affine
    tilt_degrees: float


def stack(planes: Sequence[Plane]) -> Stack:
    """Order images of one orientation and size by position, and find their place.

    Parameters
    ----------
    planes
        At least two images. The first one's orientation and spacing stand for all.

    Raises
    ------
    GeometryError
        Several images lie at one position, the gaps are not equal, or the images lie askew.
    """
    row, column = np.reshape(planes[0].orientation, (2, 3))
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.array([plane.position_mm for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(planes[index] for index in order)
    positions = positions[order]
    gaps_mm = np.diff(positions @ normal)
    _check_distinct(ordered, gaps_mm)
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    _check_even(positions, step, gaps_mm)
    tilt_degrees = math.degrees(math.acos(min(1.0, float(step @ normal / np.linalg.norm(step)))))
    if tilt_degrees > MOST_TILT_DEGREES:
        raise GeometryError(
            f"the images lie askew: their step is {tilt_degrees:.0f} degrees off their normal; "
            f"expected at most {MOST_TILT_DEGREES:g}"
        )
    between_rows_mm, between_columns_mm = planes[0].spacing_mm
    affine = np.eye(4)
    affine[:3] = np.stack(
        [row * between_columns_mm, column * between_rows_mm, step, positions[0]], axis=1
    )
    return Stack(ordered, flip_world(affine, "LPS"), tilt_degrees)


def _check_distinct(planes: Sequence[Plane], gaps_mm: np.ndarray) -> None:
    at = int(np.argmin(gaps_mm))
    if gaps_mm[at] > _LEAST_GAP_MM:
        return
    first, second = planes[at], planes[at + 1]
    names = f"{first.name} and {second.name}"
    uid = first.file.sop_instance_uid
    if uid and (uid, first.frame) == (second.file.sop_instance_uid, second.frame):
        raise GeometryError(f"{names} are the same image; expected it once")
    count = len(planes) - int(np.count_nonzero(gaps_mm > _LEAST_GAP_MM)) - 1
    raise GeometryError(
        f"one position has several images, {names} for example; {count} of {len(planes)} images "
        "share the position of another"
    )


def _check_even(positions: np.ndarray, step: np.ndarray, gaps_mm: np.ndarray) -> None:
    even = positions[0] + np.arange(len(positions))[:, None] * step
    farthest_mm = float(np.linalg.norm(positions - even, axis=1).max())
    if farthest_mm > max(_STEP_TOLERANCE * float(np.linalg.norm(step)), _ROUNDING_MM):
        raise GeometryError(
            f"the gaps between {len(positions)} images are not equal: from {gaps_mm.min():.4g} to "
            f"{gaps_mm.max():.4g} mm, up to {farthest_mm:.3g} mm off an even step; an image may "
            "be missing. Copy the series again from its source"
        )
