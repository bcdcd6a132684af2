"""A chosen series: its images in order, and their place in space."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segmaformer.runtime.scans.dicom.dataset import read_dataset
from segmaformer.runtime.scans.volume import Affine
from segmaformer.runtime.spec import Spacing, Triple

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes
    ----------
    path
        File that holds it.
    sop_class_uid, sop_instance_uid
        UIDs of that file; those of its file meta information if the data set has none, and empty
        if neither has.
    frame_number
        Number of the frame in its file, from 1; None if the file holds a single image without
        frames.
    position_mm
        ImagePositionPatient: centre of the first voxel along left, posterior and superior.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    position_mm: Point


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """Images of one series that form a volume.

    Attributes
    ----------
    slices
        Images along the third axis of the voxels, in order of position along the slice normal (the
        cross product of the row's and the column's direction). The first axis of the voxels runs
        along a row (it counts columns), the second along a column.
    affine
        Matrix (4, 4), float64, from voxel indices to millimetres along right, anterior and
        superior, as :attr:`~segmaformer.runtime.scans.volume.Volume.affine`. DICOM's own
        coordinates run along left, posterior and superior:
        ``flip_world(affine, "LPS")`` gives the matrix to those. A tilted series has a sheared
        affine.
    shape
        Columns, rows and number of images.
    spacing_mm
        Lengths of the affine's columns: between columns, between rows, between images.
    row_cosines, column_cosines
        ImageOrientationPatient: unit vectors along left, posterior and superior in which the
        column index and the row index grow.
    tilt_degrees
        Angle between the step from image to image and the slice normal.
    modality
        Modality of the series, such as ``CT``; empty if it is not stated.
    study_uid, series_uid, frame_of_reference_uid
        UIDs of the series; empty if it has none.
    """

    slices: tuple[Slice, ...] = field(repr=False)
    affine: Affine
    shape: Triple
    spacing_mm: Spacing
    row_cosines: Point
    column_cosines: Point
    tilt_degrees: float
    modality: str
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    frame_of_reference_uid: str = field(repr=False)

    def dataset(self, index: int = 0) -> FileDataset:
        """Read the file of one image without its pixels, as pydicom's data set.

        Parameters
        ----------
        index
            Index along the third axis of the voxels.

        Raises
        ------
        InputError
            The file cannot be read, or has changed beyond recognition.
        """
        return read_dataset(self.slices[index].path)
