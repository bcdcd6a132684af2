"""The scan of a chosen series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.dicom.candidates import Candidate
from segmaformer.runtime.scans.dicom.choice import choose
from segmaformer.runtime.scans.dicom.geometry import Stack
from segmaformer.runtime.scans.dicom.image_file import Numbers, Plane
from segmaformer.runtime.scans.dicom.keywords import parse_conditions
from segmaformer.runtime.scans.dicom.opening import as_input_errors, open_file
from segmaformer.runtime.scans.dicom.series import DicomSeries, Point, Slice
from segmaformer.runtime.scans.dicom.series_pixels import SeriesPixels
from segmaformer.runtime.scans.scan_file import ScanFile, read_volume
from segmaformer.runtime.scans.volume import Volume, spacing_of
from segmaformer.runtime.system.extras import require_extra


def read_series(path: str | Path, *, where: Sequence[str] = ()) -> Volume:
    """Read a series of a folder, or of a file with several frames.

    Parameters
    ----------
    path
        Folder, whose folders are searched too, or file.
    where
        Conditions ``KEYWORD=VALUE`` on the images, for a folder with several usable series.

    Returns
    -------
    Volume
        Voxels (1, columns, rows, images), float32; its `header` is the
        :class:`~segmaformer.runtime.scans.dicom.series.DicomSeries`.

    Raises
    ------
    InputError, GeometryError
        No series, or more than one, can be read; the message says why.
    ValueError
        A condition has another form.
    MissingExtraError
        pydicom is not installed.
    """
    return read_volume([read_series_header(Path(path), where)])


def read_series_header(path: Path, where: Sequence[str] = ()) -> ScanFile:
    """Choose a series as :func:`read_series` does, and read and check all but its pixels."""
    require_extra("pydicom", extra="dicom")
    conditions = parse_conditions(where)
    with as_input_errors(path):
        _refuse_index(path)
        candidate, remarks = choose(path, conditions)
    if candidate.stack is None:
        raise GeometryError(f"{path}: {candidate.refusal}")
    series = describe(candidate, candidate.stack)
    return ScanFile(
        path,
        series.shape,
        series.affine,
        np.dtype(np.float32),
        SeriesPixels(path, candidate.stack.planes),
        remarks=remarks,
        header=series,
    )


def _refuse_index(path: Path) -> None:
    opened = None if path.is_dir() else open_file(path)
    if opened is not None and opened.is_directory:
        raise InputError(
            f"{path} is an index of other files (DICOMDIR), which is not followed; give the folder "
            "that holds the images"
        )


def describe(candidate: Candidate, stack: Stack) -> DicomSeries:
    """Return the series that a usable candidate is."""
    first = candidate.files[0]
    form = first.format
    columns, rows = (form.columns, form.rows) if form else (0, 0)
    orientation = stack.planes[0].orientation
    return DicomSeries(
        tuple(map(_slice, stack.planes)),
        stack.affine,
        (columns, rows, len(stack.planes)),
        spacing_of(stack.affine),
        _point(orientation[:3]),
        _point(orientation[3:]),
        stack.tilt_degrees,
        first.modality,
        first.study_uid,
        first.series_uid,
        first.frame_of_reference_uid,
    )


def _slice(plane: Plane) -> Slice:
    file = plane.file
    return Slice(
        file.path,
        file.sop_class_uid,
        file.sop_instance_uid,
        plane.frame + 1 if file.has_frames else None,
        _point(plane.position_mm),
    )


def _point(numbers: Numbers) -> Point:
    x, y, z = numbers
    return x, y, z
