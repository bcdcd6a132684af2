"""Reading of voxels from checked files into one array, a plane at a time.

So no more is held than the float32 result and a plane, for all types, compressions, scalings and
claims of headers.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import BudgetError, GeometryError, InputError
from segmaformer.runtime.scans.byte_source import ByteSource
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.volume import (
    Affine,
    Replacement,
    StatedSpacing,
    Volume,
    check_affine,
    check_replacement_value,
    replaced_remark,
)
from segmaformer.runtime.spec import Spacing, Triple
from segmaformer.runtime.system.interruption import check

# Corners of two files' grids may differ by this share of the smallest voxel edge unnoticed.
_GRID_TOLERANCE = 0.01
# Beyond half a voxel along an axis, another voxel is nearer than the one of the same index.
_MOST_VOXELS_APART = 0.5
_ROUNDING = 1e-6
# A few bytes may follow the voxels, such as padding or a note.
_LEAST_TRAILING = 1 << 16


class PlaneSource(ABC):
    """Voxels of one channel that come a plane at a time, scaled, in any order."""

    path: Path

    @abstractmethod
    def planes(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Return planes (X, Y), each with its index along the third axis."""


@dataclass(frozen=True)
class ScanFile:
    """Checked content of a file's header.

    Attributes
    ----------
    path
        Path that was named; the voxels may be in another file.
    shape
        Number of voxels along the three spatial axes, fastest first.
    affine
        Matrix (4, 4), float64, from voxel indices to millimetres along right, anterior and
        superior.
    dtype
        Type of the stored numbers, with their byte order.
    data
        Place of the voxels' bytes; or their planes, which have neither type nor scaling left.
    slope, intercept
        Scaling: an intensity is stored number × slope + intercept.
    channels, channel_axis
        Number of channels, and place of their axis among the spatial ones as stored, fastest first:
        0 if the numbers of one voxel are neighbours, 3 if one channel follows the other.
    channels_declared
        Whether the file declares that these are channels. A mere fourth axis is undeclared: it may
        be time.
    remarks
        Warnings about the header.
    header
        nibabel's header of a NIfTI, the
        :class:`~segmaformer.runtime.scans.dicom.series.DicomSeries` of DICOM, else None.
    stated_spacing
        Voxel edges that the file states beside the affine, if it does.
    state
        :func:`file_state` from before the header was read; None skips the comparison afterwards.

    Raises
    ------
    InputError
        The file of the voxels is shorter than the header promises.
    GeometryError
        The affine is singular or not finite, or a spacing is zero.
    """

    path: Path
    shape: Triple
    affine: Affine
    dtype: np.dtype[Any]
    data: ByteSource | PlaneSource
    slope: float = 1.0
    intercept: float = 0.0
    channels: int = 1
    channel_axis: int = 3
    channels_declared: bool = True
    remarks: tuple[Finding, ...] = ()
    header: Any = field(default=None, repr=False)
    stated_spacing: StatedSpacing | None = None
    state: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.data, ByteSource):
            self.data.check_holds(self.channels * math.prod(self.shape) * self.dtype.itemsize)
        check_affine(self.affine, str(self.path))


def file_state(path: Path) -> tuple[int, ...]:
    """Return numbers that differ once a file is replaced or written to."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def outline(file: ScanFile, channels: int) -> Volume:
    """Return a volume of zeros like a file's that takes no memory, for estimates."""
    zeros = np.broadcast_to(np.float32(0), (channels, *file.shape))
    paths = (file.path,)
    return Volume(zeros, file.affine, file.header, paths, stated_spacing=file.stated_spacing)


def read_volume(
    files: Sequence[ScanFile], *, budget_bytes: int | None = None, nan_to: float | None = None
) -> Volume:
    """Read the channels of one scan.

    Parameters
    ----------
    files
        Files in the order of the channels, at least one.
    budget_bytes
        Largest memory for the voxels, in bytes; None for no limit.
    nan_to
        Replaces voxels that are NaN or infinite; None refuses such scans.

    Returns
    -------
    Volume
        Voxels (C, X, Y, Z), float32, scaled, in storage order. Affine and header are those of the
        first file. Remarks tell of channels up to half a voxel apart, of bytes after the voxels and
        of replaced voxels.

    Raises
    ------
    BudgetError
        The voxels need more memory than `budget_bytes`.
    GeometryError
        The files lie on different grids: of another shape, or with corners more than half a voxel
        apart.
    InputError
        A file is damaged, shorter than its header promises, much longer, or changes meanwhile; or
        voxels are not finite.
    ValueError
        `nan_to` is not finite.
    """
    if nan_to is not None:
        check_replacement_value(nan_to)
    remarks = [remark for file in files for remark in file.remarks]
    for other in files[1:]:
        remarks += _check_same_grid(files[0], other)
    voxels = _allocate(files, budget_bytes)
    first = replaced = 0
    for file in files:
        reading = _Reading(file, nan_to)
        reading.fill(voxels[first : first + file.channels])
        remarks += reading.remarks
        replaced += reading.not_finite
        first += file.channels
    if replaced and nan_to is not None:
        remarks.append(replaced_remark(replaced, voxels.size, nan_to))
    return Volume(
        voxels,
        files[0].affine,
        files[0].header,
        tuple(file.path for file in files),
        tuple(remarks),
        None if nan_to is None else Replacement(nan_to, replaced),
        files[0].stated_spacing,
    )


def _check_same_grid(first: ScanFile, other: ScanFile) -> Iterator[Finding]:
    if first.shape != other.shape:
        raise GeometryError(
            f"{other.path} has shape {other.shape}, {first.path} has {first.shape}; "
            "all channels must lie on one grid. Resample them to one of them"
        )
    yield from _remark_on_other_edges(first, other)
    corners = [*itertools.product(*((0, length - 1) for length in first.shape))]
    difference = (other.affine - first.affine)[:3]
    shifts = difference[:, :3] @ np.transpose(corners) + difference[:, 3:]
    distance_mm = float(np.linalg.norm(shifts, axis=0).max())
    tolerance_mm = _GRID_TOLERANCE * float(np.linalg.norm(first.affine[:3, :3], axis=0).min())
    if distance_mm <= tolerance_mm:
        return
    voxels = float(np.abs(np.linalg.solve(first.affine[:3, :3], shifts)).max())
    if voxels > _MOST_VOXELS_APART + _ROUNDING:
        raise GeometryError(
            f"{other.path} lies up to {distance_mm:.3g} mm away from {first.path}, "
            f"{voxels:.3g} voxels along an axis; all channels must lie on one grid, within half "
            "a voxel. Resample them to one of them"
        )
    yield Finding(
        "warn",
        f"{other.path.name} lies up to {distance_mm:.3g} mm away from {first.path.name}, less than "
        f"half a voxel; all channels are taken to lie where {first.path.name} does",
        "Check that the channels show the same place, and resample them to one grid if not.",
    )


def _remark_on_other_edges(first: ScanFile, other: ScanFile) -> Iterator[Finding]:
    if first.stated_spacing is None or other.stated_spacing is None:
        return
    edges, others = first.stated_spacing.spacing_mm, other.stated_spacing.spacing_mm
    if not np.allclose(others, edges, rtol=_GRID_TOLERANCE, atol=0):
        yield Finding(
            "warn",
            f"{other.path.name} states voxel edges of {_times(others)} mm, {first.path.name} of "
            f"{_times(edges)} mm; those of {first.path.name} are used",
            "Find out which ones are right and correct the other file.",
        )


def _times(edges: Spacing) -> str:
    return " x ".join(f"{edge:g}" for edge in edges)


def _allocate(files: Sequence[ScanFile], budget_bytes: int | None) -> npt.NDArray[np.float32]:
    """Allocate an array (C, X, Y, Z) in the files' memory order, X fastest."""
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


@dataclass
class _Reading:
    """Reading of one file's voxels, with an account of oddities.

    Attributes
    ----------
    not_finite, first_not_finite
        Number of voxels that are NaN or infinite, and index of the first.
    """

    file: ScanFile
    nan_to: float | None
    remarks: list[Finding] = field(default_factory=list)
    not_finite: int = 0
    first_not_finite: list[int] = field(default_factory=list)

    def fill(self, voxels: npt.NDArray[np.float32]) -> None:
        """Fill `voxels` (C, X, Y, Z); refuse or replace those that are not finite."""
        file = self.file
        if isinstance(file.data, PlaneSource):
            for index, values in file.data.planes():
                check()
                plane = voxels[0, :, :, index]
                plane[...] = values
                self._look_for_not_finite(plane, (index,))
        else:
            self._fill_from_bytes(voxels, file.data)
        if file.state not in (None, file_state(file.path)):
            raise InputError(
                f"{file.path} was replaced or changed while it was read; wait until its writer has "
                "finished, and try again"
            )
        if self.not_finite and self.nan_to is None:
            if isinstance(file.data, ByteSource):
                del self.first_not_finite[file.channel_axis]
            raise InputError(
                f"{self.not_finite} of {voxels.size} voxels of {file.path} are NaN or infinite, "
                f"the first at {self.first_not_finite}; expected finite numbers. Repair the step "
                "that produced the scan, or set them to a number by --nan-to VALUE (nan_to in "
                "Python)"
            )

    def _fill_from_bytes(self, voxels: npt.NDArray[np.float32], data: ByteSource) -> None:
        file = self.file
        stored = np.moveaxis(voxels, 0, file.channel_axis)
        plane_rank = 3 if file.channel_axis < 2 else 2
        with data.open() as stream:
            for slowest_first in np.ndindex(stored.shape[plane_rank:][::-1]):
                check()
                index = slowest_first[::-1]
                plane = stored[(..., *index)]
                plane[...] = _read_plane(stream, file, plane.shape)
                self._look_for_not_finite(plane, index)
            self._look_behind(stream, data)

    def _look_for_not_finite(self, plane: npt.NDArray[np.float32], index: tuple[int, ...]) -> None:
        finite = np.isfinite(plane)
        if finite.all():
            return
        where = np.argwhere(~finite)
        self.first_not_finite = self.first_not_finite or [*map(int, where[0]), *index]
        self.not_finite += len(where)
        if self.nan_to is not None:
            plane[~finite] = self.nan_to

    def _look_behind(self, stream: BinaryIO, data: ByteSource) -> None:
        """Compare the stream's checksum, and remark on bytes after the voxels."""
        file = self.file
        voxel_bytes = file.channels * math.prod(file.shape) * file.dtype.itemsize
        most = max(voxel_bytes, _LEAST_TRAILING)
        count = data.trailing_bytes(stream, most)
        if count > most:
            raise InputError(
                f"{data.path} holds more than its header promises: more than {most} bytes "
                "follow the voxels. The header is wrong or the file is not what it seems; convert "
                "the scan again from its source"
            )
        if count:
            self.remarks.append(
                Finding(
                    "warn",
                    f"{count} bytes follow the voxels of {data.path.name}; the shape "
                    f"{file.shape} or the type {file.dtype.name} in its header may be wrong",
                    "Look at the scan, and convert it again from its source if it is not whole.",
                )
            )


def _read_plane(
    stream: BinaryIO, file: ScanFile, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Read the next numbers, scaled in float64 before they are rounded to float32."""
    raw = np.empty(math.prod(shape) * file.dtype.itemsize, np.uint8)
    _fill(stream, raw.data)
    plane = raw.view(file.dtype).reshape(shape, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are reported as such
        if (file.slope, file.intercept) != (1.0, 0.0):
            plane = plane.astype(np.float64) * file.slope + file.intercept
        return plane.astype(np.float32)


def _fill(stream: BinaryIO, buffer: memoryview) -> None:
    while buffer:
        count = stream.readinto(buffer)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it holds fewer voxels than its header promises")
        buffer = buffer[count:]
