"""Source series of DICOM results: its UIDs, places, patient and study, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.series import DicomSeries, Slice
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.system.extras import require_extra

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
)
"""Attributes of patient and study that are copied; a result has them even if they are empty."""

_ISSUER = "IssuerOfPatientID"
_SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.2"
_COMPRESSION = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def check_series(volume: Volume) -> None:
    """Refuse a scan to which DICOM results could not refer, before the work.

    Raises
    ------
    MissingExtraError
        highdicom or pydicom is not installed.
    InputError
        As for :func:`series_of`.
    """
    require_extra("highdicom", "pydicom", extra="dicom")
    series_of(volume)


def series_of(volume: Volume) -> DicomSeries:
    """Return the series that a scan was read from, if DICOM results can refer to it.

    Raises
    ------
    InputError
        The scan is no DICOM series, or UIDs that a result must refer to are empty.
    """
    series = volume.header
    if not isinstance(series, DicomSeries):
        raise InputError(
            "the scan is no DICOM series, to which a DICOM segmentation must refer; give -o a name "
            "that ends in .nii.gz, or segment the DICOM files themselves"
        )
    stated = {
        "StudyInstanceUID": series.study_uid,
        "SeriesInstanceUID": series.series_uid,
        "FrameOfReferenceUID": series.frame_of_reference_uid,
        "SOPClassUID": all(each.sop_class_uid for each in series.slices),
        "SOPInstanceUID": all(each.sop_instance_uid for each in series.slices),
    }
    empty = [name for name, value in stated.items() if not value]
    if empty:
        raise InputError(
            f"the series has no {', '.join(empty)}, to which a DICOM segmentation must refer, and "
            "nothing is invented; give -o a name that ends in .nii.gz, or have the files repaired"
        )
    return series


def bare_images(series: DicomSeries, header: Dataset) -> list[Dataset]:
    """Describe every image of a series by its UIDs and place alone, as one of a single voxel.

    Frames of a multi-frame file have stand-ins for its UIDs, which :func:`name_frames` replaces:
    highdicom takes several images or one file, and not some frames of several files.

    Parameters
    ----------
    series
        Series with all UIDs, see :func:`series_of`.
    header
        Data set of one of its files.
    """
    from pydicom.dataset import Dataset

    shared = bare_identity()
    shared.StudyInstanceUID = series.study_uid
    shared.SeriesInstanceUID = series.series_uid
    shared.FrameOfReferenceUID = series.frame_of_reference_uid
    shared.Modality = series.modality
    shared.Columns = shared.Rows = 1
    shared.ImageOrientationPatient = _decimals((*series.row_cosines, *series.column_cosines))
    shared.PixelSpacing = _decimals(pixel_spacing(series))
    shared.SliceThickness = _decimals([gap_mm(series)])[0]
    for name in _COMPRESSION:
        if name in header:
            setattr(shared, name, header[name].value)
    images = []
    for index, each in enumerate(series.slices):
        image = Dataset()
        image.update(shared)
        image.SOPClassUID, image.SOPInstanceUID = each.sop_class_uid, each.sop_instance_uid
        if each.frame_number is not None:
            image.SOPClassUID, image.SOPInstanceUID = _SINGLE_FRAME, _stand_in(index)
        image.ImagePositionPatient = _decimals(each.position_mm)
        images.append(image)
    return images


def bare_identity() -> Dataset:
    """Return a data set with an empty identification, which :func:`identify` fills in a result.

    Libraries check identifications that they copy, and may complain of values with the values.
    """
    from pydicom.dataset import Dataset

    bare = Dataset()
    for name in (*IDENTITY, "ReferringPhysicianName"):
        setattr(bare, name, "")
    return bare


def name_frames(result: Dataset, series: DicomSeries) -> None:
    """Refer to frames by their file's UID and their number, where stand-ins are."""
    frames = {
        _stand_in(index): each
        for index, each in enumerate(series.slices)
        if each.frame_number is not None
    }
    if not frames:
        return
    for item in result.PerFrameFunctionalGroupsSequence:
        for derivation in item.DerivationImageSequence:
            for source in derivation.SourceImageSequence:
                each = frames.get(source.ReferencedSOPInstanceUID)
                if each is not None:  # several items of one plane share their source
                    _refer(source, each)
                    source.ReferencedFrameNumber = each.frame_number
    files = {}
    for image in result.SourceImageSequence:
        each = frames[image.ReferencedSOPInstanceUID]
        _refer(image, each)
        files[each.sop_instance_uid] = image
    result.SourceImageSequence = [*files.values()]
    result.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [*files.values()]


def _refer(reference: Dataset, to: Slice) -> None:
    reference.ReferencedSOPClassUID = to.sop_class_uid
    reference.ReferencedSOPInstanceUID = to.sop_instance_uid


def identify(result: Dataset, header: Dataset) -> None:
    """Copy the identification of patient and study from a file of the source to a result."""
    result.SpecificCharacterSet = "ISO_IR 192"
    for name in IDENTITY:
        # As text: the source's own character set may be another.
        setattr(result, name, _text(header, name))
    if _text(header, _ISSUER):
        setattr(result, _ISSUER, _text(header, _ISSUER))


def pixel_spacing(series: DicomSeries) -> tuple[float, float]:
    """Return the distances of rows and of columns in mm, as PixelSpacing."""
    between_columns, between_rows, _ = np.linalg.norm(series.affine[:3, :3], axis=0)
    return float(between_rows), float(between_columns)


def gap_mm(series: DicomSeries) -> float:
    """Return the distance of neighbouring images along their normal in mm."""
    normal = np.cross(series.row_cosines, series.column_cosines)
    step = series.affine[:3, 2] * (-1, -1, 1)
    return abs(float(step @ normal))


def _decimals(numbers: Iterable[float]) -> list[str]:
    """Return numbers as DICOM's texts of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(number)) for number in numbers]


def _stand_in(index: int) -> str:
    return f"2.25.{index + 1}"


def _text(header: Dataset, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value)
