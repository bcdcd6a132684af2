"""Segments of a DICOM segmentation: one for each label of a package, or for each region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segmaformer.runtime.package.codes import Code, LabelCodes
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.results.palette import label_colours

SegmentationType = Literal["binary", "labelmap"]
MANY_FRAMES = 400
"""Number of frames beyond which some viewers do not show a segmentation."""
PRIVATE_SCHEME = "99SGMF"
"""Scheme of the codes that labels have which the package gives none."""

_LABEL_OF_A_NETWORK = Code(PRIVATE_SCHEME, "LABEL", "Label of a segmentation network")
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes
    ----------
    number
        Number of the segment, from 1.
    name
        Name of the label or region, as DICOM allows it.
    codes
        Codes of the package; or private ones, whose meaning is the name, if it has none.
    colour
        sRGB colour, 0 to 255, of the label in every picture.
    values
        Values of the label map that make up the segment; several for a region that contains
        others.
    """

    number: int
    name: str
    codes: LabelCodes
    colour: tuple[int, int, int]
    values: tuple[int, ...]


def segments_of(manifest: Manifest) -> list[Segment]:
    """List the segments of a package's results, absent labels included.

    A region is the union of its labels in the label map, as nnU-Net scores regions. So segments
    of regions overlap, and those of labels do not.
    """
    output = manifest.output
    parts = [(region.name, region.value, region.labels) for region in output.regions] or [
        (label.name, label.value, (label.value,)) for label in output.labels if label.value
    ]
    colours = label_colours(max(value for _, value, _ in parts))
    return [
        Segment(
            number,
            _dicom_text(name),
            manifest.codes.get(name) or _private_codes(name, value),
            tuple(colours[value - 1].tolist()),
            values,
        )
        for number, (name, value, values) in enumerate(parts, start=1)
    ]


def uncoded_names(manifest: Manifest) -> list[str]:
    """List the segments to which the package gives no code."""
    return [
        segment.name
        for segment in segments_of(manifest)
        if segment.codes.category.scheme == PRIVATE_SCHEME
    ]


def _private_codes(name: str, value: int) -> LabelCodes:
    kind = Code(PRIVATE_SCHEME, f"LABEL-{value}", _dicom_text(name))
    return LabelCodes(_LABEL_OF_A_NETWORK, kind)


def _dicom_text(name: str) -> str:
    """Return a name without what DICOM allows in no short text, cut to its 64 characters."""
    plain = "".join(each if each.isprintable() and each != "\\" else " " for each in name)
    return plain.strip()[:_LONGEST_NAME].strip() or "unnamed"
