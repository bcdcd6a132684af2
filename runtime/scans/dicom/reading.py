"""Reading of a file's header: the facts of the file, and the place of each of its images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.character_sets import encode_texts_as_utf8
from segmaformer.runtime.scans.dicom.elements import Element, Elements, Header, read_elements
from segmaformer.runtime.scans.dicom.encoding import EXPLICIT
from segmaformer.runtime.scans.dicom.image_file import ImageFile, Numbers, Plane
from segmaformer.runtime.scans.dicom.keywords import check_uid, is_sequence, tag_of
from segmaformer.runtime.scans.dicom.opening import (
    LONGEST_META,
    OpenedFile,
    Window,
    opened_file,
)
from segmaformer.runtime.scans.dicom.pixels import (
    PixelFormat,
    check_format,
    check_grey,
    check_place,
)
from segmaformer.runtime.scans.scan_file import file_state

_CLASSES = "1.2.840.10008.5.1.4.1.1."
_NO_SCANS = {
    "7": "a secondary capture, made from other images",
    "11": "a presentation state, no image",
    "30": "a parametric map, no scan",
    "66": "a segmentation or another derived object, no scan",
    "88": "a report, no image",
    "104": "a document, no image",
    "481": "an object of radiotherapy, no scan",
}
_NO_VOLUMES = {
    "LOCALIZER": "a localizer",
    "SCOUT": "a localizer",
    "MOSAIC": "a mosaic, many slices side by side in one image; expected an image for each slice",
    "PROJECTION IMAGE": "a projection",
    "MIP": "a projection",
    "MINIP": "a projection",
}
_FORMAT = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_BYTES_BEFORE_CONTENT = 132
_MOST_FRAMES = 1 << 20
_COSINE_TOLERANCE = 1e-3
_FARTHEST_MM = 1e5


def read_image_file(path: Path, wanted: frozenset[int]) -> tuple[ImageFile, list[Plane]] | None:
    """Read the header of a file; None if it is no DICOM file, or an index of others.

    Parameters
    ----------
    path
        The file.
    wanted
        Tags to keep for :meth:`Plane.values`, those of
        :func:`~segmaformer.runtime.scans.dicom.keywords.wanted_tags`.

    Returns
    -------
    file, planes
        The file, and its images if their place is known. What is wrong is in the file's `fault`.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    if path.is_symlink() and not path.exists():
        fault = _lost_content(path, b"", "links to nothing")
        return (_unknown(path, (), fault), []) if fault else None
    state = file_state(path)
    with path.open("rb") as stream:
        start = stream.read(LONGEST_META)
        opened = opened_file(path, start)
        if opened is None:
            fault = _lost_content(path, start[:_BYTES_BEFORE_CONTENT])
            return (_unknown(path, state, fault), []) if fault else None
        if opened.is_directory:
            return None
        # The data sets of unknown transfer syntaxes are explicit, all but those of private ones.
        syntax = opened.syntax or EXPLICIT
        try:
            window = Window(stream, opened)
            header = read_elements(window, syntax, wanted, is_sequence)
            encode_texts_as_utf8(header.elements)
            return _Reading(opened, header, window.end).image_file(state)
        except InputError as error:
            return ImageFile(opened, state, fault=str(error), has_series=False), []


def _lost_content(path: Path, start: bytes, what: str = "") -> str:
    """Tell what became of an image whose name alone is left; empty if the file never was one.

    A failed copy leaves an empty file, one of zeros, or a link to nothing. At an end of a series
    it would leave no gap.
    """
    suffix = path.suffix.lower()
    numbered = suffix[1:].isdigit() or (not suffix and any(map(str.isdigit, path.name)))
    if not what and not any(start):
        what = "begins with zeros alone" if start else "is empty"
    if suffix in _SUFFIXES and not what:
        what = "holds no DICOM"
    if not what or not (suffix in _SUFFIXES or numbered):
        return ""
    return f"it {what}, so an image may be missing; copy it again, or take it away"


def _unknown(path: Path, state: tuple[int, ...], fault: str) -> ImageFile:
    return ImageFile(OpenedFile(path, None, "", 0, "", ""), state, fault=fault, has_series=False)


@dataclass(frozen=True)
class _Reading:
    """Header of a file, on its way to facts.

    Attributes
    ----------
    end
        Number of bytes in the data set.
    """

    opened: OpenedFile
    header: Header
    end: int

    def image_file(self, state: tuple[int, ...]) -> tuple[ImageFile, list[Plane]]:
        """Return the file and its images; a fault leaves what is known."""
        file = ImageFile(
            self.opened,
            state,
            sop_class_uid=self._text("SOPClassUID") or self.opened.sop_class_uid,
            sop_instance_uid=self._text("SOPInstanceUID") or self.opened.sop_instance_uid,
            study_uid=self._text("StudyInstanceUID"),
            series_uid=self._text("SeriesInstanceUID"),
            frame_of_reference_uid=self._text("FrameOfReferenceUID"),
            modality=self._text("Modality"),
            number=self._text("SeriesNumber"),
            description=self._text("SeriesDescription"),
            no_volume=self._why_no_volume(),
            has_series=bool(self._text("SeriesInstanceUID")) or not self.header.is_cut_off,
            elements=self.header.elements,
        )
        if file.no_volume:
            return file, []
        try:
            self._check_uids(file)
            form = self._format()
            frames = self._frame_count()
            multiple = bool(self.header.frames)
            file = dataclasses.replace(file, format=form, frames=frames, has_frames=multiple)
            planes = self._planes(file, frames)
        except InputError as error:
            return dataclasses.replace(file, fault=self._grave_fault() or str(error)), []
        try:
            place = check_place(self.header.pixels, self.opened, form, frames, self.end)
        except InputError as error:
            file = dataclasses.replace(file, fault=self._grave_fault() or str(error))
        else:
            file = dataclasses.replace(file, pixels=place)
        return file, [dataclasses.replace(plane, file=file) for plane in planes]

    def _grave_fault(self) -> str:
        if self.opened.syntax is None:
            return f"its transfer syntax {self.opened.syntax_uid} cannot be decoded"
        if self.header.is_cut_off:
            return "it is cut off or damaged: its header ends too early; copy it again"
        return ""

    def _why_no_volume(self) -> str:
        sop_class = self._text("SOPClassUID") or self.opened.sop_class_uid
        kind = sop_class.removeprefix(_CLASSES).split(".")[0] if _CLASSES in sop_class else ""
        if kind in _NO_SCANS:
            in_colour = self._short("SamplesPerPixel") not in (None, 1)
            return _NO_SCANS[kind] + ", in colour" * in_colour
        if self.header.pixels is None and not self.header.is_cut_off:
            return "no image"
        found = self._find(self.header.elements, "ImageType")
        types = () if found is None else found.texts
        return next((why for name, why in _NO_VOLUMES.items() if name in types), "")

    def _check_uids(self, file: ImageFile) -> None:
        check_uid("SOPInstanceUID", file.sop_instance_uid)
        check_uid("StudyInstanceUID", file.study_uid)
        check_uid("SeriesInstanceUID", file.series_uid)
        check_uid("FrameOfReferenceUID", file.frame_of_reference_uid)

    def _format(self) -> PixelFormat:
        check_grey(self._short("SamplesPerPixel"), self._text("PhotometricInterpretation"))
        numbers = {name: self._short(name) for name in _FORMAT}
        missing = next((name for name, number in numbers.items() if number is None), None)
        if missing is not None:
            raise InputError(f"it has no {missing}")
        rows, columns, allocated, stored, sign = (number or 0 for number in numbers.values())
        if sign not in (0, 1):
            raise InputError(f"its PixelRepresentation is {sign}; expected 0 or 1")
        high = self._short("HighBit")
        return check_format(
            PixelFormat(
                rows,
                columns,
                allocated,
                stored,
                stored - 1 if high is None else high,
                sign == 1,
            )
        )

    def _frame_count(self) -> int:
        found = self._find(self.header.elements, "NumberOfFrames")
        numbers = found.decimals() if found is not None and found.value else (1.0,)
        if len(numbers) != 1 or not 1 <= numbers[0] <= _MOST_FRAMES or numbers[0] % 1:
            raise InputError(f"its NumberOfFrames is no number from 1 to {_MOST_FRAMES}")
        count, groups = int(numbers[0]), len(self.header.frames)
        if groups and groups != count:
            raise InputError(f"it has {count} frames, and functional groups for {groups}")
        if count > 1 and not groups:
            raise InputError(f"it has {count} frames, and does not say where each of them lies")
        return count

    def _planes(self, file: ImageFile, count: int) -> list[Plane]:
        if self._find(self.header.elements, "ModalityLUTSequence") is not None:
            raise InputError(
                "its intensities follow from a table (ModalityLUTSequence); expected RescaleSlope "
                "and RescaleIntercept"
            )
        frames = self.header.frames or [{}]
        return [self._plane(file, index, groups) for index, groups in enumerate(frames[:count])]

    def _plane(self, file: ImageFile, index: int, groups: Elements) -> Plane:
        places: tuple[Elements, ...] = (groups, self.header.shared, self.header.elements)
        if not self.header.frames:
            places = (self.header.elements,)
        position = _numbers(places, "ImagePositionPatient", 3)
        orientation = _numbers(places, "ImageOrientationPatient", 6)
        spacing = _numbers(places, "PixelSpacing", 2)
        _check_place(position, orientation, spacing)
        slope = _numbers(places, "RescaleSlope", 1, (1.0,))[0]
        intercept = _numbers(places, "RescaleIntercept", 1, (0.0,))[0]
        if not slope or not math.isfinite(slope * intercept):
            raise InputError(
                f"its RescaleSlope {slope:g} and RescaleIntercept {intercept:g} give no intensities"
            )
        return Plane(file, index, position, orientation, spacing, slope, intercept, places)

    def _text(self, keyword: str) -> str:
        found = self._find(self.header.elements, keyword)
        return "" if found is None else found.text

    def _short(self, keyword: str) -> int | None:
        found = self._find(self.header.elements, keyword)
        return None if found is None else found.short

    def _find(self, elements: Elements, keyword: str) -> Element | None:
        return elements.get(tag_of(keyword) or 0)


def _numbers(
    places: Sequence[Elements], keyword: str, count: int, default: Numbers | None = None
) -> Numbers:
    """Return the numbers of an attribute from the first place that has it."""
    tag = tag_of(keyword) or 0
    found = next((each[tag] for each in places if tag in each and each[tag].value), None)
    if found is None and default is not None:
        return default
    if found is None:
        raise InputError(f"it has no {keyword}")
    numbers = found.decimals()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError(f"its {keyword} is not {count} finite numbers")
    return numbers


def _check_place(position: Numbers, orientation: Numbers, spacing: Numbers) -> None:
    """Refuse a place that no image can have."""
    if max(map(abs, position)) > _FARTHEST_MM:
        raise InputError("its ImagePositionPatient lies more than 100 m away")
    if not all(0 < edge <= _FARTHEST_MM for edge in spacing):
        raise InputError(f"its PixelSpacing is {spacing[0]:g} and {spacing[1]:g} mm")
    row, column = orientation[:3], orientation[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if max(abs(length - 1) for length in lengths) > _COSINE_TOLERANCE:
        raise InputError(
            "the directions of its ImageOrientationPatient have the lengths "
            f"{lengths[0]:.4g} and {lengths[1]:.4g}; expected 1"
        )
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > _COSINE_TOLERANCE:
        raise InputError("the directions of its ImageOrientationPatient are not at right angles")
