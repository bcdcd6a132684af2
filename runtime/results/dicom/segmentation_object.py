"""DICOM segmentation (SEG) of a label map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import segmaformer
from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.package.codes import Code
from segmaformer.runtime.results.dicom.segments import Segment, segments_of
from segmaformer.runtime.results.dicom.source import (
    bare_images,
    check_series,
    gap_mm,
    identify,
    name_frames,
    pixel_spacing,
    series_of,
)
from segmaformer.runtime.system.atomic import Target, atomic_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from segmaformer.runtime.results.segmentation import Segmentation

SegmentationType = Literal["binary", "labelmap"]
MANY_FRAMES = 400
"""Number of frames beyond which some viewers do not show a segmentation."""
NOTICE = "Automatic segmentation for research, not for diagnosis"


def write_segmentation_object(
    path: Target, segmentation: Segmentation, kind: SegmentationType = "binary"
) -> Dataset:
    """Write a label map as a DICOM segmentation of the series that it belongs to.

    Parameters
    ----------
    path
        File to write; it appears when it is complete.
    segmentation
        Labels of a scan that was read from DICOM.
    kind
        ``binary`` writes a bit for each voxel and segment, and leaves empty frames out;
        ``labelmap`` writes one number for each voxel, compressed by RLE.

    Returns
    -------
    Dataset
        What was written.

    Raises
    ------
    InputError
        The scan is no DICOM series, or lacks UIDs that must be referred to.
    ValueError
        The package has regions, which overlap, and `kind` is ``labelmap``.
    MissingExtraError
        highdicom is not installed.
    SgmfError
        highdicom cannot describe the series.
    """
    result = segmentation_object(segmentation, kind)
    with atomic_file(path) as stream, without_names("the DICOM segmentation"):
        result.save_as(stream)
    return result


def segmentation_object(segmentation: Segmentation, kind: SegmentationType) -> Dataset:
    """Build what :func:`write_segmentation_object` writes; errors are the same."""
    check_series(segmentation.volume)
    series = series_of(segmentation.volume)
    if kind == "labelmap" and segmentation.manifest.output.regions:
        raise ValueError(
            "the regions of this package overlap, and a DICOM label map holds one segment for each "
            "voxel; write type binary"
        )
    with without_names("the DICOM segmentation"):
        header = series.dataset()
        result = _build(segmentation, kind, header)
        name_frames(result, series)
        identify(result, header)
    return result


@contextmanager
def without_names(what: str) -> Iterator[None]:
    """Keep out of messages what DICOM libraries say, which may be values of the patient.

    Raises
    ------
    SgmfError
        A library failed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SgmfError, OSError, MemoryError):
        raise
    except Exception as error:
        raise SgmfError(
            f"{what} cannot be made of this series ({type(error).__name__} in highdicom); give -o "
            "a name that ends in .nii.gz"
        ) from None


def _build(segmentation: Segmentation, kind: SegmentationType, header: Dataset) -> Any:
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

    series = series_of(segmentation.volume)
    segments = segments_of(segmentation.manifest)
    images = bare_images(series, header)
    planes = np.ascontiguousarray(segmentation.labels.T)
    if kind == "binary" and not planes.any():
        images, planes = images[:1], planes[:1]  # an object needs a frame
    return highdicom.seg.Segmentation(
        images,
        _pixels(planes, segments, overlapping=bool(segmentation.manifest.output.regions)),
        kind.upper(),
        [_description(segment, segmentation) for segment in segments],
        series_instance_uid=generate_uid(None),
        series_number=series_number(header, 1),
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        **equipment(segmentation),
        omit_empty_frames=kind == "binary",
        content_label="SEGMENTATION",
        content_description=NOTICE,
        transfer_syntax_uid=RLELossless if kind == "labelmap" else ExplicitVRLittleEndian,
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing(series), gap_mm(series), gap_mm(series)
        ),
        series_description=f"Segmentation by {segmentation.manifest.name}"[:64],
    )


def _pixels(planes: np.ndarray, segments: list[Segment], *, overlapping: bool) -> np.ndarray:
    """Return segment numbers (frame, row, column), or the masks of overlapping segments last."""
    if not overlapping:
        return planes
    masks = np.zeros((*planes.shape, len(segments)), np.uint8)
    for index, segment in enumerate(segments):
        masks[..., index] = np.isin(planes, segment.values)
    return masks


def equipment(segmentation: Segmentation) -> dict[str, Any]:
    """Return the device that made a result: this software, and the package by its hash."""
    return {
        "manufacturer": "segmaformer",
        "manufacturer_model_name": segmentation.manifest.name[:64] or "segmaformer",
        "software_versions": segmaformer.__version__,
        "device_serial_number": segmentation.package_sha256,
    }


def series_number(header: Dataset, place: int) -> int:
    """Return the number of a result's series: that of the source, with two digits behind it."""
    source = int(header.get("SeriesNumber") or 0)
    return (source * 100 if 0 < source < 10_000_000 else 0) + place


def concept(code: Code) -> Any:
    """Return a code as highdicom's."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _description(segment: Segment, segmentation: Segmentation) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    description = highdicom.seg.SegmentDescription(
        segment.number,
        segment.name,
        concept(segment.codes.category),
        concept(segment.codes.type),
        "AUTOMATIC",
        highdicom.AlgorithmIdentificationSequence(
            segmentation.manifest.name[:64],
            codes.DCM.ArtificialIntelligence,
            segmentation.package_sha256,
            source="segmaformer",
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.codes.modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(segment.codes.modifier)]
    return description
