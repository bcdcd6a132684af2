"""DICOM segmentation (SEG) of a label map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from segmaformer.runtime.results.dicom.common_parts import (
    concept,
    equipment,
    series_number,
    without_names,
)
from segmaformer.runtime.results.dicom.frames import (
    fill_binary,
    fill_label_map,
    frame_order,
    slices_in_use,
    values_of,
)
from segmaformer.runtime.results.dicom.segments import Segment, SegmentationType, segments_of
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
        The package has regions, which overlap, and `kind` is ``labelmap``; or no such label as one
        in the label map.
    MissingExtraError
        highdicom is not installed.
    SgmfError
        highdicom cannot describe the series.
    """
    result = segmentation_object(segmentation, kind)
    with atomic_file(path) as stream, without_names("the DICOM segmentation"):
        result.save_as(stream, enforce_file_format=True)
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
    segments = segments_of(segmentation.manifest)
    planes = [*np.ascontiguousarray(segmentation.labels.T)]
    values = values_of(planes)
    unknown = set().union(*values) - {value for each in segments for value in each.values}
    if unknown and not segmentation.manifest.output.regions:
        raise ValueError(
            f"the label map holds {', '.join(map(str, sorted(unknown)))}, and the package has no "
            "such label"
        )
    with without_names("the DICOM segmentation"):
        header = series.dataset()
        used = slices_in_use(values) if kind == "binary" else np.ones(len(planes), bool)
        images = bare_images(series, header)
        result = _describe(segmentation, kind, header, images, used)
        framed = [planes[index] for index in frame_order(result, images)]
        name_frames(result, series)
        identify(result, header)
        if kind == "binary":
            fill_binary(result, framed, segments)
        else:
            fill_label_map(result, framed)
    return result


def _describe(
    segmentation: Segmentation,
    kind: SegmentationType,
    header: Dataset,
    images: list[Dataset],
    used: np.ndarray,
) -> Dataset:
    """Describe a segmentation whose frames are one voxel each, one frame for each used slice.

    highdicom takes long for the frames of many segments.
    """
    import highdicom
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    series = series_of(segmentation.volume)
    described = highdicom.seg.Segmentation(
        images,
        used.astype(np.uint8)[:, None, None],
        kind.upper(),
        [_description(each, segmentation) for each in segments_of(segmentation.manifest)],
        series_instance_uid=generate_uid(None),
        series_number=series_number(header, 1),
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        **equipment(segmentation),
        omit_empty_frames=kind == "binary",
        content_label="SEGMENTATION",
        content_description=NOTICE,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing(series), gap_mm(series), gap_mm(series)
        ),
        series_description=f"Segmentation by {segmentation.manifest.name}"[:64],
    )
    result = Dataset()  # highdicom's own class would go on to index the frames of one voxel
    result.update(described)
    result.file_meta = described.file_meta
    return result


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
            parameters={
                "licence": (segmentation.manifest.network.licence or "not recorded")[:1024]
            },
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.codes.modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(segment.codes.modifier)]
    return description
