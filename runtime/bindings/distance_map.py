"""Distances of voxels from a mask."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.spec import Spacing


def distance_map(mask: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Compute the distance of every voxel from the nearest one of a mask.

    Parameters
    ----------
    mask
        Shape (X, Y, Z), bool.
    spacing_mm
        Distance of voxels along each axis in mm.

    Returns
    -------
    np.ndarray
        Shape (X, Y, Z), float64: millimetres between centres of voxels, infinite for an empty mask.

    Raises
    ------
    ValueError
        An extent or a spacing is not above zero.
    """
    distance = np.empty(mask.shape)
    error = op_library().sgmf_distance_map(
        np.ascontiguousarray(mask, bool).view(np.uint8),
        np.array(mask.shape),
        np.array(spacing_mm, np.float64),
        distance,
    )
    if error:
        raise ValueError(f"distance map: {error.decode()}")
    return distance
