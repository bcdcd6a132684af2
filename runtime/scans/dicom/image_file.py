"""One DICOM file: the images in it, and each one's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segmaformer.runtime.scans.dicom.elements import Elements, PixelPlace
from segmaformer.runtime.scans.dicom.keywords import tag_of, values_of
from segmaformer.runtime.scans.dicom.opening import OpenedFile
from segmaformer.runtime.scans.dicom.pixels import PixelFormat

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Plane:
    """One image of a file, and its place.

    Attributes
    ----------
    file
        The file that holds it.
    frame
        Index in the file, from 0.
    position_mm
        Centre of the first voxel along left, posterior and superior (3).
    orientation
        Direction of a row and of a column, in which indices grow (6).
    spacing_mm
        Distance of rows and of columns, as PixelSpacing.
    slope, intercept
        An intensity is stored number × slope + intercept.
    elements
        Attributes of the image, by tag: its own before those of all images of the file.
    """

    file: ImageFile
    frame: int
    position_mm: Numbers
    orientation: Numbers
    spacing_mm: Numbers
    slope: float
    intercept: float
    elements: Sequence[Elements] = field(repr=False)

    @property
    def name(self) -> str:
        """Name for a message: that of the file, with the frame's number if it has several."""
        frame = f", frame {self.frame + 1}" if self.file.frames > 1 else ""
        return self.file.path.name + frame

    def values(self, keyword: str) -> tuple[str, ...]:
        """Return the values of an attribute of this image as texts; none if it lacks it."""
        return attribute(self.elements, keyword)


@dataclass(frozen=True)
class ImageFile:
    """Facts of a DICOM file.

    Attributes
    ----------
    opened
        Place and encoding of the data set.
    state
        State of the file before it was read, see
        :func:`~segmaformer.runtime.scans.scan_file.file_state`.
    modality, number, description
        Modality, number and description of its series.
    no_volume
        Reason why such images make no volume: a localizer, for example; empty if they may.
    fault
        What is wrong with the file; empty if nothing is.
    has_series
        Whether the header was read as far as the UID of its series, or to its end.
    frames
        Number of images in it.
    has_frames
        Whether its images are frames of a multi-frame object, even if it has only one.
    format, pixels
        Format and place of the pixels; None if a fault leaves them unknown.
    elements
        Attributes of the file, by tag.
    """

    opened: OpenedFile
    state: tuple[int, ...]
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    modality: str = ""
    number: str = ""
    description: str = ""
    frames: int = 1
    has_frames: bool = False
    no_volume: str = ""
    fault: str = ""
    has_series: bool = True
    format: PixelFormat | None = None
    pixels: PixelPlace | None = None
    elements: Elements = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.opened.path

    def values(self, keyword: str) -> tuple[str, ...]:
        """Return the values of an attribute of the file as texts; none if it lacks it."""
        return attribute([self.elements], keyword)


def attribute(places: Sequence[Elements], keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute as texts, from the first place that has it."""
    tag = tag_of(keyword)
    found = next((each[tag] for each in places if tag in each), None)
    return () if found is None or tag is None else tuple(filter(None, values_of(tag, found)))
