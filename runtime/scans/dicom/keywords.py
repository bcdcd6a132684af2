"""Attributes that reading needs, by DICOM's keywords, and conditions on attributes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.elements import Element

SPLITTING = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "EchoNumbers"),
    *("EchoTime", "EffectiveEchoTime", "DiffusionBValue", "ImageType", "FrameType"),
    *("ComplexImageComponent", "StackID", "TriggerTime", "NominalCardiacTriggerDelayTime"),
    *("InversionTime", "FlipAngle", "ConvolutionKernel", "AcquisitionTime", "ContentTime"),
    *("SeriesNumber", "SeriesDescription", "SeriesInstanceUID", "InstanceNumber"),
)
"""Keywords that may tell the images of two volumes apart, the plainest first."""

_USED = (
    "SpecificCharacterSet",
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "StudyInstanceUID"),
    *("SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "SamplesPerPixel", "PhotometricInterpretation"),
    *("NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
)
_IDENTITY_GROUP = 0x10
_DECIMAL, _BINARY = {"DS", "IS"}, {"FD": "d", "FL": "f", "US": "H", "SS": "h", "UL": "I", "SL": "i"}


@functools.cache
def tag_of(keyword: str) -> int | None:
    """Return the tag of a keyword; None if DICOM has no such keyword."""
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(keyword)


def wanted_tags(conditions: Iterable[Condition]) -> frozenset[int]:
    """Return the tags that reading needs, and those of conditions."""
    keywords = {*_USED, *SPLITTING, *(each.keyword for each in conditions)}
    return frozenset(tag for tag in map(tag_of, keywords) if tag is not None)


@functools.cache
def is_sequence(tag: int) -> bool:
    """Tell if DICOM declares the element of a tag as a sequence."""
    return type_of(tag) == "SQ"


def values_of(tag: int, element: Element) -> tuple[str, ...]:
    """Return an element's values as texts, numbers in the shortest form."""
    code = _BINARY.get(type_of(tag))
    if code is not None:
        return tuple(f"{number:.10g}" for number in element.unpacked(code))
    if type_of(tag) in _DECIMAL:
        return tuple(f"{number:.10g}" for number in element.decimals()) or element.texts
    return element.texts


def type_of(tag: int) -> str:
    """Return the type that DICOM gives to a tag; empty if it has no such tag."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


@dataclass(frozen=True)
class Condition:
    """Condition on an attribute of an image.

    Attributes
    ----------
    keyword
        DICOM's keyword of the attribute.
    value
        Value to have, whole or as one of several, or two numbers divided by ``..``: a range with
        both ends.
    """

    keyword: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse ``KEYWORD=VALUE``.

        Raises
        ------
        ValueError
            The text has another form, DICOM has no such keyword, or it is about the patient.
        """
        keyword, equals, value = text.partition("=")
        if not equals or not keyword:
            raise ValueError(f"{text!r} is not of the form KEYWORD=VALUE, such as SeriesNumber=2")
        tag = tag_of(keyword)
        if tag is None:
            raise ValueError(f"DICOM has no keyword {keyword!r}; expected one like SeriesNumber")
        if tag >> 16 == _IDENTITY_GROUP:
            raise ValueError(f"{keyword} is about the patient; choose by another attribute")
        return cls(keyword, value.strip())

    def holds(self, values: Sequence[str]) -> bool:
        """Tell if an attribute with these values meets the condition."""
        if not values:
            return False
        ends = self._range()
        if ends is not None:
            return any(ends[0] <= number <= ends[1] for number in map(_number, values))
        if self.value in (*values, "\\".join(values)):
            return True
        number = _number(self.value)
        return len(values) == 1 and not math.isnan(number) and number == _number(values[0])

    def _range(self) -> tuple[float, float] | None:
        first, dots, last = self.value.partition("..")
        ends = _number(first), _number(last)
        return ends if dots and not any(map(math.isnan, ends)) else None

    def __str__(self) -> str:
        return f"{self.keyword}={self.value}"


def parse_conditions(where: Iterable[str]) -> tuple[Condition, ...]:
    """Parse conditions ``KEYWORD=VALUE``; errors are those of :meth:`Condition.parse`."""
    return tuple(map(Condition.parse, where))


def check_uid(name: str, uid: str) -> None:
    """Refuse a UID with other characters than digits and dots.

    Raises
    ------
    InputError
        The UID is not empty and has others.
    """
    if uid.strip("0123456789.") or len(uid) > 64:
        raise InputError(f"its {name} is no UID; expected digits and dots, at most 64")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
