"""Frames of a DICOM segmentation: their pixels, and the functional groups of each.

Thousands of frames differ from one another in two numbers: their segment and their slice. So what
is said of a slice is encoded once, and its frames share the bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.results.dicom.segments import Segment
from segmaformer.runtime.scans.dicom.elements import FRAME_GROUPS, PIXEL_DATA

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Planes = Sequence[npt.NDArray[np.unsignedinteger[Any]]]
"""Labels (row, column) of slices."""

_BITS = 8


def values_of(planes: Planes) -> list[set[int]]:
    """Return the labels in each slice, without the background."""
    return [set(np.flatnonzero(np.bincount(plane.ravel())).tolist()) - {0} for plane in planes]


def slices_in_use(values: Sequence[set[int]]) -> npt.NDArray[np.bool_]:
    """Tell which slices (n) a binary segmentation has frames of: one at least."""
    found = np.array([bool(each) for each in values])
    found[0] |= not found.any()
    return found


def frame_order(result: Dataset, images: Sequence[Dataset]) -> list[int]:
    """Return the index of the image that each frame was derived from."""
    indices = {image.SOPInstanceUID: index for index, image in enumerate(images)}
    return [
        indices[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        for item in result.PerFrameFunctionalGroupsSequence
    ]


def fill_label_map(result: Dataset, planes: Planes) -> None:
    """Give a segmentation with a frame for each slice its labels, compressed by RLE.

    Parameters
    ----------
    result
        Segmentation of type ``LABELMAP`` that is complete but for its pixels.
    planes
        Labels of each frame.
    """
    from pydicom.uid import RLELossless

    numbers = np.stack(planes).astype(f"<u{result.BitsAllocated // _BITS}", copy=False)
    result.Rows, result.Columns = planes[0].shape
    result.compress(RLELossless, numbers, generate_instance_uid=False)


def fill_binary(result: Dataset, planes: Planes, segments: Sequence[Segment]) -> None:
    """Replace the one frame of each slice by one for every segment in it.

    Parameters
    ----------
    result
        Segmentation of type ``BINARY`` that is complete but for its frames.
    planes
        Labels of the slices, in the order of the frames.
    segments
        All segments.
    """
    from pydicom.dataelem import DataElement

    slices = [
        _Slice.of(item, is_alone=len(segments) == 1)
        for item in result.PerFrameFunctionalGroupsSequence
    ]
    present = values_of(planes)
    frames = [
        (segment, index)
        for segment in segments
        for index, values in enumerate(present)
        if not values.isdisjoint(segment.values)
    ] or [(segments[0], 0)]
    items = b"".join(slices[index].frame(segment.number) for segment, index in frames)
    result.Rows, result.Columns = planes[0].shape
    result.NumberOfFrames = len(frames)
    result.SegmentsOverlap = "YES" if _overlap(segments, set().union(*present)) else "NO"
    # Plain bytes would be copied twice when they are written.
    result[PIXEL_DATA] = DataElement(PIXEL_DATA, "OB", _packed(planes, frames))
    _set_encoded_sequence(result, FRAME_GROUPS, items)


@dataclass(frozen=True)
class _Slice:
    """Encoded functional groups of a slice.

    Attributes
    ----------
    number
        Its number among the slices with frames, from 1.
    derivation, position
        Its elements before and behind that of a frame's content.
    is_alone
        Whether the only segment is named for all frames together.
    """

    number: int
    derivation: bytes
    position: bytes
    is_alone: bool

    @classmethod
    def of(cls, item: Dataset, *, is_alone: bool) -> _Slice:
        """Encode the item of one of the slice's frames."""
        number = item.FrameContentSequence[0].DimensionIndexValues[-1]
        derivation = _encoded(item, "DerivationImageSequence")
        return cls(number, derivation, _encoded(item, "PlanePositionSequence"), is_alone)

    def frame(self, segment: int) -> bytes:
        """Encode the item of a segment's frame."""
        numbers = segment.to_bytes(4, "little") + self.number.to_bytes(4, "little")
        content = _sequence(0x00209111, _element(0x00209157, b"UL", numbers))
        number = _element(0x0062000B, b"US", segment.to_bytes(2, "little"))
        identification = b"" if self.is_alone else _sequence(0x0062000A, number)
        return _item(self.derivation + content + self.position + identification)


def _encoded(item: Dataset, keyword: str) -> bytes:
    """Encode one element of an item, explicit and little endian."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_data_element(stream, item[keyword])
    return stream.getvalue()


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    return _tag(tag) + vr + len(value).to_bytes(2, "little") + value


def _sequence(tag: int, value: bytes) -> bytes:
    content = _item(value)
    return _tag(tag) + b"SQ\0\0" + len(content).to_bytes(4, "little") + content


def _item(value: bytes) -> bytes:
    return _tag(0xFFFEE000) + len(value).to_bytes(4, "little") + value


def _tag(tag: int) -> bytes:
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")


def _overlap(segments: Sequence[Segment], values: set[int]) -> bool:
    """Tell if a label that is there belongs to two segments."""
    owned = [value for segment in segments for value in segment.values if value in values]
    return len(owned) > len(set(owned))


def _packed(planes: Planes, frames: Sequence[tuple[Segment, int]]) -> io.BytesIO:
    """Pack the frames' masks, a bit for each voxel, without a gap between frames."""
    packed = io.BytesIO()
    masks = np.empty((_BITS, *planes[0].shape), np.bool_)
    for first in range(0, len(frames), _BITS):  # so many end with a whole byte
        group = frames[first : first + _BITS]
        for mask, (segment, index) in zip(masks, group, strict=False):
            np.equal(planes[index], segment.values[0], out=mask)
            for value in segment.values[1:]:
                mask |= planes[index] == value
        packed.write(np.packbits(masks[: len(group)], bitorder="little").tobytes())
    packed.write(bytes(packed.tell() % 2))
    packed.seek(0)
    return packed


def _set_encoded_sequence(result: Dataset, tag: int, items: bytes) -> None:
    """Set a sequence that is written as it is, and decoded only if someone reads it."""
    from pydicom.charset import convert_encodings
    from pydicom.dataelem import RawDataElement
    from pydicom.filewriter import correct_ambiguous_vr
    from pydicom.tag import Tag

    correct_ambiguous_vr(result, True)
    result[tag] = RawDataElement(
        Tag(tag), "SQ", len(items), items, 0, is_implicit_VR=False, is_little_endian=True
    )
    # Another original encoding would have it decoded and encoded again.
    result.set_original_encoding(False, True, convert_encodings(result.SpecificCharacterSet))
