"""A scan and its place in space.

One affine accompanies the voxels from the file to the label map. Axes are reordered
and reversed only by what that affine says, never by the shape of the array.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.pipeline_call import call
from segmaformer.runtime.bindings.structs import spacing, triple
from segmaformer.runtime.errors import GeometryError
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.spec import Spacing, Triple

Affine = npt.NDArray[np.float64]
Element = TypeVar("Element", bound=np.generic)


@dataclass(frozen=True)
class Replacement:
    """Number of voxels that were NaN or infinite, and the value that replaced them."""

    value: float
    voxels: int


@dataclass(frozen=True)
class StatedSpacing:
    """Voxel edges that a file states beside its affine.

    Attributes
    ----------
    edges
        Edges along the stored axes, above zero, in the file's unit.
    mm_per_unit
        Number of millimetres in that unit.
    single
        Whether the file holds them as float32.
    """

    edges: Spacing
    mm_per_unit: float = 1.0
    single: bool = False

    @property
    def spacing_mm(self) -> Spacing:
        """Edges in millimetres."""
        x, y, z = (edge * self.mm_per_unit for edge in self.edges)
        return x, y, z


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels in the order in which their file stores them, and their place.

    Attributes
    ----------
    voxels
        Intensities (C, X, Y, Z), float32.
    affine
        Matrix (4, 4), float64, from voxel indices to millimetres along right,
        anterior and superior (nibabel's convention).
    header
        The header that the scan came with, so that a label map can be written with the same
        codes, matrices and units: that of a NIfTI, or the
        :class:`~segmaformer.runtime.scans.dicom.series.DicomSeries` of DICOM files; None for a scan
        from elsewhere.
    source
        Files that the channels were read from.
    remarks
        Warnings about the files, which could be read nonetheless.
    replacement
        Replacement of voxels that were not finite; None if none was asked for.
    stated_spacing
        Voxel edges that the file states beside the affine, if it does.

    Raises
    ------
    ValueError
        `voxels` or `affine` has the wrong number of axes or an empty one.
    TypeError
        `voxels` are not float32.
    GeometryError
        The affine is not finite, has an axis of length zero or is singular.
    """

    voxels: npt.NDArray[np.float32] = field(repr=False)
    affine: Affine
    header: Any = field(default=None, repr=False)
    source: tuple[Path, ...] = ()
    remarks: tuple[Finding, ...] = ()
    replacement: Replacement | None = None
    stated_spacing: StatedSpacing | None = None

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4 or 0 in self.voxels.shape:
            raise ValueError(f"voxels have shape {self.voxels.shape}; expected (C, X, Y, Z)")
        if self.voxels.dtype != np.float32:
            raise TypeError(f"voxels are {self.voxels.dtype}; expected float32")
        check_affine(self.affine, ", ".join(map(str, self.source)) or "the volume")

    @classmethod
    def from_bytes(cls, *contents: bytes) -> Volume:
        """Read a scan from the bytes of its files.

        Parameters
        ----------
        contents
            NIfTI, NRRD, MetaImage or a zip of DICOM images: a file that holds all channels, or one
            for each channel. The bytes decide the format. DICOM segmentations of the scan cannot be
            written later: they need its files.

        Raises
        ------
        ValueError
            There are no contents.
        InputError, GeometryError
            As for :func:`segmaformer.runtime.scans.formats.read_scan`, or a zip cannot be unpacked.
        """
        from segmaformer.runtime.scans.formats import read_scan
        from segmaformer.runtime.scans.from_bytes import kept_as_files

        with kept_as_files([io.BytesIO(content) for content in contents]) as files:
            volume = read_scan(files)
        return dataclasses.replace(volume, source=tuple(Path(file.name) for file in files))

    @property
    def shape(self) -> Triple:
        """Number of voxels along the three spatial axes."""
        _, x, y, z = self.voxels.shape
        return x, y, z

    @property
    def spacing_mm(self) -> Spacing:
        """Distance of neighbouring voxels along each axis in mm, to six digits.

        Headers hold float32: an oblique scan of 3 mm slices may come out as 3.0000002.
        """
        return spacing_of(self.affine)

    def with_finite_voxels(self, value: float) -> Volume:
        """Return a copy with voxels that are NaN or infinite replaced by `value`, with a remark.

        Raises
        ------
        ValueError
            `value` is not finite as a float32.
        """
        check_replacement_value(value)
        bad = ~np.isfinite(self.voxels)
        count = int(np.count_nonzero(bad))
        if not count:
            found = self.replacement or Replacement(value, 0)
            return dataclasses.replace(self, replacement=found)
        voxels = self.voxels.copy(order="K")
        voxels[bad] = value
        remarks = (*self.remarks, replaced_remark(count, voxels.size, value))
        found = Replacement(value, count)
        return dataclasses.replace(self, voxels=voxels, remarks=remarks, replacement=found)

    @property
    def axis_codes(self) -> str:
        """Direction that each axis runs towards, such as ``RAS`` or ``LPS``."""
        return axis_codes(self.affine)


def check_replacement_value(value: float) -> None:
    """Refuse a value that cannot replace a voxel that is NaN or infinite.

    Raises
    ------
    ValueError
        The value is not finite as a float32.
    """
    with np.errstate(over="ignore"):
        if not np.isfinite(np.float32(value)):
            raise ValueError(f"nan_to is {value}; expected a finite number")


def replaced_remark(count: int, size: int, value: float) -> Finding:
    """Warn that `count` of `size` voxels were given another value."""
    return Finding(
        "warn",
        f"{count} of {size} voxels were NaN or infinite and were set to {value:g}, as asked",
        "Check that they lie where the scan shows nothing of interest.",
    )


@dataclass(frozen=True)
class Reorientation:
    """Reordering of the spatial axes, some reversed; it can always be undone.

    Attributes
    ----------
    axes
        Axis i of the result is axis ``axes[i]`` of the input.
    reverse
        Whether axis i of the result runs against that axis.
    """

    axes: Triple = (0, 1, 2)
    reverse: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: npt.NDArray[Element]) -> npt.NDArray[Element]:
        """Return a view of `array`, whose last three axes are spatial, in the new order."""
        view: npt.NDArray[Element] = _transposed(array, self.axes)[self._flips]
        return view

    def undo(self, array: npt.NDArray[Element]) -> npt.NDArray[Element]:
        """Return a view of a reoriented `array` in the order before :meth:`apply`."""
        a, b, c = (self.axes.index(axis) for axis in range(3))
        return _transposed(array[self._flips], (a, b, c))

    def apply_to_spacing(self, spacing_mm: Spacing) -> Spacing:
        """Return the spacing in the new order of axes."""
        i, j, k = self.axes
        return spacing_mm[i], spacing_mm[j], spacing_mm[k]

    def apply_to_affine(self, affine: Affine, shape: Triple) -> Affine:
        """Return the affine of the reoriented array, given that of the input and its `shape`."""
        to_input = np.zeros((4, 4))
        to_input[3, 3] = 1
        for axis, (source, reverse) in enumerate(zip(self.axes, self.reverse, strict=True)):
            to_input[source, axis] = -1 if reverse else 1
            to_input[source, 3] = shape[source] - 1 if reverse else 0
        return affine @ to_input

    @property
    def _flips(self) -> tuple[Any, ...]:
        return (..., *(slice(None, None, -1 if reverse else 1) for reverse in self.reverse))


def orient_to(affine: Affine, codes: str) -> Reorientation:
    """Find the reorientation after which axes run as nearly as possible towards `codes`.

    Parameters
    ----------
    affine
        Matrix (4, 4) of the array that is to be reoriented.
    codes
        Three letters, one of each pair L/R, P/A and I/S, such as ``RAS``.

    Raises
    ------
    ValueError
        `codes` names no orientation.
    """
    if sorted("LPI"["LRPAIS".find(code) // 2] for code in codes if code in "LRPAIS") != [*"ILP"]:
        raise ValueError(f"{codes!r} names no orientation; expected three letters such as 'RAS'")
    axes, reverse = np.empty(3, np.int32), np.empty(3, np.int32)
    call("sgmf_orient", np.ascontiguousarray(affine, np.float64), codes.encode(), axes, reverse)
    a, b, c = (bool(backwards) for backwards in reverse)
    return Reorientation(triple(axes), (a, b, c))


def axis_codes(affine: Affine) -> str:
    """Return the direction of each axis by an affine (4, 4), such as ``RAS`` or ``LPS``."""
    turn = orient_to(affine, "RAS")
    codes = ["", "", ""]
    for world, (axis, reverse) in enumerate(zip(turn.axes, turn.reverse, strict=True)):
        codes[axis] = ("LPI" if reverse else "RAS")[world]
    return "".join(codes)


def flip_world(affine: Affine, codes: str) -> Affine:
    """Exchange the affine's directions right, anterior and superior for `codes`, or back.

    Parameters
    ----------
    affine
        Matrix (4, 4) to coordinates along ``RAS`` or along `codes`.
    codes
        ``RAS``, or with letters reversed: ``LPS``, ``LAS`` and so on.

    Returns
    -------
    Affine
        Matrix to coordinates along the other of the two, exactly.
    """
    signs = [1.0 if code == positive else -1.0 for code, positive in zip(codes, "RAS", strict=True)]
    return np.diag([*signs, 1.0]) @ affine


def check_affine(affine: Affine, name: str) -> None:
    """Refuse an affine that gives voxels no place, or the same place to several.

    Parameters
    ----------
    name
        Name of the affine's owner, for the message.

    Raises
    ------
    ValueError
        The affine has another shape than (4, 4).
    GeometryError
        The affine is not finite, has an axis of length zero or is singular.
    """
    if affine.shape != (4, 4):
        raise ValueError(f"{name}: the affine has shape {affine.shape}; expected (4, 4)")
    try:
        spacing_of(affine)
    except GeometryError as error:
        raise GeometryError(f"{name}: {error}") from None


def spacing_of(affine: Affine) -> Spacing:
    """Return the mm between neighbouring voxels by a checked affine (4, 4), to six digits."""
    spacing_mm = np.empty(3)
    call("sgmf_measure_affine", np.ascontiguousarray(affine, np.float64), spacing_mm)
    return spacing(spacing_mm)


def _transposed(array: npt.NDArray[Element], axes: Triple) -> npt.NDArray[Element]:
    leading = array.ndim - 3
    return array.transpose(*range(leading), *(leading + axis for axis in axes))


def tilt_degrees(affine: Affine) -> float:
    """Return the largest angle of an axis, by its affine (4, 4), to the nearest patient axis."""
    return _degrees(np.abs(_directions(affine)).max(axis=0).min())


def _directions(affine: Affine) -> Affine:
    """Return the unit vectors along the axes, in columns."""
    steps = affine[:3, :3]
    return np.asarray(steps / np.linalg.norm(steps, axis=0))


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


ROBUST_PERCENTILES = (0.5, 99.5)
"""Percentiles of the nonzero voxels that give the range of intensities without outliers."""
_SAMPLE_VOXELS = 2_000_000


def regular_sample(image: np.ndarray) -> np.ndarray:
    """Return a view of about two million voxels of `image` (X, Y, Z) at a regular distance."""
    step = max(1, round((image.size / _SAMPLE_VOXELS) ** (1 / 3)))
    return image[::step, ::step, ::step]
