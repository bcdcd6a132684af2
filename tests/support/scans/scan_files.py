"""Scans as other programs write them, and headers put together by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK

SHAPE = (4, 5, 6)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = np.array(
    [
        [0.79, -0.42, 0.9, -80.5],
        [0.31, 1.73, -0.35, 3.25],
        [-0.16, 0.9, 2.85, 1000.125],
        [0, 0, 0, 1],
    ]
)
"""Axes that are neither at right angles nor along the patient's."""


def ramp(dtype: str = "<i2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Fill voxels with numbers from 1 on: no plane looks like another and none is empty."""
    return (np.arange(np.prod(shape)) % 250 + 1).reshape(shape).astype(dtype)


def itk_image(voxels: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    """Make an image of voxels (X, Y, Z), or (C, X, Y, Z) with channels, whose affine is RAS+."""
    image = SimpleITK.GetImageFromArray(voxels.T, isVector=voxels.ndim == 4)
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def itk_affine(image: SimpleITK.Image) -> np.ndarray:
    """Return the affine of an image along right, anterior and superior."""
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return LPS @ lps


def write_by_itk(path: Path, voxels: np.ndarray, affine: np.ndarray, compress: bool) -> Path:
    SimpleITK.WriteImage(itk_image(voxels, affine), str(path), compress)
    return path


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Measure the bytes that Python and numpy held at once since the block began."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
