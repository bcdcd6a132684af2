"""DICOM report (SR) of the volume of every segment, by template 1500."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segmaformer.runtime.package.codes import Code, LabelCodes
from segmaformer.runtime.results.dicom.common_parts import (
    concept,
    equipment,
    series_number,
    without_names,
)
from segmaformer.runtime.results.dicom.segments import Segment, segments_of
from segmaformer.runtime.results.dicom.source import bare_identity, identify, series_of
from segmaformer.runtime.results.statistics import MM3_PER_ML
from segmaformer.runtime.scans.dicom.series import DicomSeries
from segmaformer.runtime.system.atomic import Target, atomic_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from segmaformer.runtime.results.segmentation import Segmentation

_MILLILITRE = Code("UCUM", "ml", "milliliter")
_SIDES = ("7771000", "24028007")
_ANATOMY = ("91723000", "123037004")


def write_measurement_report(
    path: Target,
    segmentation: Segmentation,
    segmentation_object: Dataset,
    statistics: Mapping[str, Any] | None = None,
) -> None:
    """Write the volume of every segment in millilitres, absent ones included.

    Parameters
    ----------
    path
        File to write; it appears when it is complete.
    segmentation
        Labels of a scan that was read from DICOM.
    segmentation_object
        Result of
        :func:`~segmaformer.runtime.results.dicom.segmentation_object.write_segmentation_object`,
        which the report refers to.
    statistics
        Result of ``segmentation.statistics()``, if it is known; None measures.

    Raises
    ------
    InputError, MissingExtraError, SgmfError
        As for the segmentation object.
    """
    series = series_of(segmentation.volume)
    measured = segmentation.statistics() if statistics is None else statistics
    volumes = {label["value"]: label["volume_mm3"] / MM3_PER_ML for label in measured["labels"]}
    with atomic_file(path) as stream, without_names("the DICOM report"):
        header = series.dataset()
        report = _build(segmentation, segmentation_object, volumes, header)
        identify(report, header)
        report.save_as(stream)


def _build(
    segmentation: Segmentation,
    source: Dataset,
    volumes_ml: Mapping[int, float],
    header: Dataset,
) -> Any:
    import highdicom
    from pydicom.uid import generate_uid

    made_by = equipment(segmentation)
    series = series_of(segmentation.volume)
    content = highdicom.sr.MeasurementReport(
        _observer(segmentation),
        _procedure(series),
        [
            _group(segment, source, series, sum(volumes_ml[value] for value in segment.values))
            for segment in segments_of(segmentation.manifest)
        ],
    )
    report = highdicom.sr.Comprehensive3DSR(
        [_evidence(source)],
        content[0],
        series_instance_uid=generate_uid(None),
        series_number=series_number(header, 2),
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        manufacturer=made_by["manufacturer"],
        is_complete=True,
        series_description=f"Volumes by {segmentation.manifest.name}"[:64],
    )
    report.ManufacturerModelName = made_by["manufacturer_model_name"]
    report.SoftwareVersions = made_by["software_versions"]
    report.DeviceSerialNumber = made_by["device_serial_number"]
    return report


def _evidence(source: Dataset) -> Dataset:
    """Return the UIDs of what is referred to; highdicom checks identities that it would copy."""
    evidence = bare_identity()
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        setattr(evidence, name, source[name].value)
    return evidence


def _observer(segmentation: Segmentation) -> Any:
    """Return the package as the device that observed, with a UID made of its hash."""
    import highdicom
    from pydicom.sr.codedict import codes

    number = uuid.UUID(hex=segmentation.package_sha256[:32]).int
    return highdicom.sr.ObservationContext(
        observer_device_context=highdicom.sr.ObserverContext(
            codes.DCM.Device,
            highdicom.sr.DeviceObserverIdentifyingAttributes(
                uid=f"2.25.{number}",
                name=segmentation.manifest.name[:64],
                manufacturer_name="segmaformer",
            ),
        )
    )


def _procedure(series: DicomSeries) -> Any:
    """Return the kind of examination, as far as the modality tells it."""
    from pydicom.sr.codedict import codes

    known = {
        "CT": codes.LN.CTUnspecifiedBodyRegion,
        "MR": codes.LN.MRIUnspecifiedBodyRegion,
        "PT": codes.LN.PETUnspecifiedBodyRegion,
        "NM": codes.LN.NMUnspecifiedBodyRegion,
    }
    return known.get(series.modality, codes.SCT.ImagingProcedure)


def _group(segment: Segment, source: Dataset, series: DicomSeries, volume_ml: float) -> Any:
    """Return the measurements of one segment."""
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    return highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        highdicom.sr.TrackingIdentifier(generate_uid(None), segment.name),
        referenced_segment=highdicom.sr.ReferencedSegment(
            source.SOPClassUID,
            source.SOPInstanceUID,
            segment.number,
            source_series=highdicom.sr.SourceSeriesForSegmentation(series.series_uid),
        ),
        finding_category=concept(segment.codes.category),
        finding_type=concept(segment.codes.type),
        finding_sites=_site(segment.codes),
        measurements=[highdicom.sr.Measurement(codes.SCT.Volume, volume_ml, concept(_MILLILITRE))],
    )


def _site(codes: LabelCodes) -> Any:
    """Return the place that a paired structure is, with its side; None for other segments."""
    from highdicom.sr import FindingSite

    side = codes.modifier
    if side is None or side.value not in _SIDES or codes.category.value not in _ANATOMY:
        return None
    return [FindingSite(concept(codes.type), laterality=concept(side))]
