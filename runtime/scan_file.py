"""Voxels from checked files into one array, a plane at a time.

So no more is held than the float32 result and a plane, whatever type, compression and
scaling the files use and whatever their headers claim.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.byte_source import ByteSource
from segmaformer.runtime.errors import BudgetError, GeometryError, InputError
from segmaformer.runtime.manifest import Triple
from segmaformer.runtime.volume import Affine, Volume, check_affine

# Corners of two files' grids may differ by this part of the smallest voxel edge.
_GRID_TOLERANCE = 0.01


@dataclass(frozen=True)
class ScanFile:
    """What the header of a file says, after it was checked.

    Attributes
    ----------
    path
        The file that was named; the voxels may be in another.
    shape
        Voxels along the three spatial axes, fastest first.
    affine
        Matrix (4, 4), float64, from voxel indices to millimetres along right, anterior
        and superior.
    dtype
        Of the stored numbers, with their byte order.
    data
        Where the voxels are.
    slope, intercept
        An intensity is stored number × slope + intercept.
    channels, channel_axis
        Numbers for each voxel, and where their axis stands among the spatial ones as
        they are stored, fastest first: 0 where the numbers of one voxel are neighbours,
        3 where one channel follows the other.
    header
        nibabel's header if the file is a NIfTI, else None.

    Raises
    ------
    InputError
        The file that holds the voxels is shorter than the header promises.
    GeometryError
        The affine is singular or not finite, or a spacing is zero.
    """

    path: Path
    shape: Triple
    affine: Affine
    dtype: np.dtype[Any]
    data: ByteSource
    slope: float = 1.0
    intercept: float = 0.0
    channels: int = 1
    channel_axis: int = 3
    header: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.data.check_holds(self.channels * math.prod(self.shape) * self.dtype.itemsize)
        check_affine(self.affine, str(self.path))


def read_volume(files: Sequence[ScanFile], *, budget_bytes: int | None = None) -> Volume:
    """Read the channels of one scan.

    Parameters
    ----------
    files
        In the order of the channels, at least one.
    budget_bytes
        The voxels may take no more than this; None for no limit.

    Returns
    -------
    Volume
        Voxels (C, X, Y, Z), float32, scaled, in storage order. Affine and header are
        those of the first file.

    Raises
    ------
    BudgetError
        The voxels need more memory.
    GeometryError
        The files lie on different grids: another shape, or corners further apart than a
        hundredth of the smallest voxel edge.
    InputError
        A file is damaged or shorter than its header promises, or goes on after the
        voxels although it is compressed; voxels are not finite.
    """
    for other in files[1:]:
        _check_same_grid(files[0], other)
    voxels = _allocate(files, budget_bytes)
    first = 0
    for file in files:
        _read_voxels(file, voxels[first : first + file.channels])
        first += file.channels
    return Volume(voxels, files[0].affine, files[0].header, tuple(file.path for file in files))


def _check_same_grid(first: ScanFile, other: ScanFile) -> None:
    if first.shape != other.shape:
        raise GeometryError(
            f"{other.path} has shape {other.shape}, {first.path} has {first.shape}; "
            "all channels must lie on one grid. Resample them to one of them"
        )
    corners = [*itertools.product(*((0, length - 1) for length in first.shape))]
    difference = (other.affine - first.affine)[:3]
    shifts = difference[:, :3] @ np.transpose(corners) + difference[:, 3:]
    distance_mm = float(np.linalg.norm(shifts, axis=0).max())
    tolerance_mm = _GRID_TOLERANCE * float(np.linalg.norm(first.affine[:3, :3], axis=0).min())
    if distance_mm > tolerance_mm:
        raise GeometryError(
            f"{other.path} lies up to {distance_mm:.3g} mm away from {first.path}; all channels "
            f"must lie on one grid, within {tolerance_mm:.3g} mm. Resample them to one of them"
        )


def _allocate(files: Sequence[ScanFile], budget_bytes: int | None) -> npt.NDArray[np.float32]:
    """Array (C, X, Y, Z) in the files' memory order, X fastest."""
    x, y, z = files[0].shape
    channels = sum(file.channels for file in files)
    needed = channels * x * y * z * np.dtype(np.float32).itemsize
    if budget_bytes is not None and needed > budget_bytes:
        raise BudgetError("the voxels", budget_bytes, needed)
    try:
        return np.empty((channels, z, y, x), np.float32).transpose(0, 3, 2, 1)
    except MemoryError:
        raise InputError(
            f"{files[0].path} has shape {files[0].shape}; "
            f"{needed / 2**30:.3g} GiB of memory are needed to read it"
        ) from None


def _read_voxels(file: ScanFile, voxels: npt.NDArray[np.float32]) -> None:
    """Fill `voxels` (C, X, Y, Z) from the file and refuse those that are not finite."""
    stored = np.moveaxis(voxels, 0, file.channel_axis)
    plane_rank = 3 if file.channel_axis < 2 else 2
    bad = 0
    first_bad: list[int] = []
    with file.data.open() as stream:
        for slowest_first in np.ndindex(stored.shape[plane_rank:][::-1]):
            index = slowest_first[::-1]
            plane = stored[(..., *index)]
            plane[...] = _read_plane(stream, file, plane.shape)
            if not np.isfinite(plane).all():
                where = np.argwhere(~np.isfinite(plane))
                first_bad = first_bad or [*map(int, where[0]), *index]
                bad += len(where)
        _check_end(stream, file)
    if bad:
        del first_bad[file.channel_axis]
        raise InputError(
            f"{bad} of {voxels.size} voxels of {file.path} are NaN or infinite, the first at "
            f"{first_bad}; expected finite numbers. Repair the step that produced the scan"
        )


def _read_plane(
    stream: BinaryIO, file: ScanFile, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Read the next numbers, scaled in float64 before they are rounded to float32."""
    raw = np.empty(math.prod(shape) * file.dtype.itemsize, np.uint8)
    _fill(stream, raw.data)
    plane = raw.view(file.dtype).reshape(shape, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as such
        if (file.slope, file.intercept) != (1.0, 0.0):
            plane = plane.astype(np.float64) * file.slope + file.intercept
        return plane.astype(np.float32)


def _fill(stream: BinaryIO, buffer: memoryview) -> None:
    while buffer:
        count = stream.readinto(buffer)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it holds fewer voxels than its header promises")
        buffer = buffer[count:]


def _check_end(stream: BinaryIO, file: ScanFile) -> None:
    """Let the stream compare its checksum, and refuse one that would go on unpacking."""
    if stream.read(1) and file.data.compressed:
        raise InputError(
            f"{file.data.path} unpacks to more than its header promises; "
            "the header is wrong or the file is not what it seems. Copy it again from its source"
        )
