"""Walk through the elements of a header, with bounds, for those that are wanted alone.

Elements about the patient (group 0010) are passed over, so nothing here can repeat them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.encoding import IMPLICIT, TransferSyntax
from segmaformer.runtime.scans.dicom.opening import LONG_VRS, Window, plain_text

SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
PIXEL_DATA = 0x7FE00010
FLOAT_PIXELS, DOUBLE_PIXELS = 0x7FE00008, 0x7FE00009
UNDEFINED_LENGTH = 0xFFFFFFFF

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PATIENT_GROUP = 0x10
# Sequences in the groups of a frame whose items describe other images.
_OF_OTHER_IMAGES = frozenset({0x00081140, 0x00082112, 0x00089124})
# Most elements outside the frames' functional groups, for each frame, and of all.
_MOST_ELEMENTS, _MOST_OF_A_FRAME, _MOST_OF_ALL = 50_000, 1000, 1_500_000
_DEEPEST = 16
_LONGEST_VALUE = 1 << 16


@dataclass(frozen=True)
class Element:
    """Value of an element, and the order of its bytes."""

    value: bytes
    little: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts of a value, which backslashes divide."""
        return tuple(part.strip(" ") for part in plain_text(self.value).split("\\"))

    @property
    def text(self) -> str:
        """The whole value as a text."""
        return plain_text(self.value)

    @property
    def short(self) -> int | None:
        """The value as one unsigned 16-bit number; None if it is none."""
        if len(self.value) != 2:
            return None
        return int.from_bytes(self.value, "little" if self.little else "big")

    def decimals(self) -> tuple[float, ...]:
        """Return the numbers of a decimal text; none if any is no number."""
        try:
            return tuple(float(text) for text in self.texts)
        except ValueError:
            return ()

    def unpacked(self, code: str) -> tuple[float, ...]:
        """Return the binary numbers of a struct code, such as ``d``."""
        count = len(self.value) // struct.calcsize(code)
        order = "<" if self.little else ">"
        return struct.unpack_from(f"{order}{count}{code}", self.value)


Elements = dict[int, Element]


@dataclass(frozen=True)
class PixelPlace:
    """Place of the pixels in a data set.

    Attributes
    ----------
    tag, vr
        Tag and type of the element; the type is empty if it is implicit.
    at
        Position of the value in the data set.
    length
        Number of bytes; `UNDEFINED_LENGTH` for fragments.
    """

    tag: int
    vr: bytes
    at: int
    length: int


@dataclass
class Header:
    """Wanted elements of a data set.

    Attributes
    ----------
    elements
        Elements of the data set itself.
    shared, frames
        Elements of the functional groups that all frames share, and of those of each frame; the
        groups' own nesting is left out.
    pixels
        Place of the pixels; None if there are none.
    is_cut_off
        Whether the data set ends within an element.
    """

    elements: Elements = field(default_factory=dict)
    shared: Elements = field(default_factory=dict)
    frames: list[Elements] = field(default_factory=list)
    pixels: PixelPlace | None = None
    is_cut_off: bool = False


def read_elements(
    window: Window,
    syntax: TransferSyntax,
    wanted: Collection[int],
    is_sequence: Callable[[int], bool],
) -> Header:
    """Read the wanted elements of a data set up to its pixels.

    Parameters
    ----------
    window
        Bytes of the data set.
    syntax
        Its encoding.
    wanted
        Tags to keep. Those of the patient's group are not.
    is_sequence
        Tells if a tag is that of a sequence, where elements do not state their type.

    Raises
    ------
    InputError
        The header has too many elements, or sequences within sequences.
    """
    header = Header()
    keep = {tag for tag in wanted if tag >> 16 != _PATIENT_GROUP}
    try:
        _Walk(window, keep, is_sequence, header).data_set(syntax)
    except _CutOffError:
        header.is_cut_off = True
    return header


class _CutOffError(Exception):
    """The data end within an element."""


@dataclass(frozen=True)
class _Found:
    tag: int
    vr: bytes
    at: int
    length: int


@dataclass
class _Walk:
    window: Window
    keep: set[int]
    is_sequence: Callable[[int], bool]
    header: Header
    count: int = 0
    most: int = _MOST_ELEMENTS

    def data_set(self, syntax: TransferSyntax) -> None:
        """Walk through the data set itself."""
        at = 0
        while at < self.window.end:
            found = self._element(at, syntax)
            if found.tag in (PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS):
                self.header.pixels = PixelPlace(found.tag, found.vr, found.at, found.length)
                return
            if found.tag == SHARED_GROUPS:
                at = self._items(found, syntax, lambda: self.header.shared)
            elif found.tag == FRAME_GROUPS:
                at = self._items(found, syntax, self._next_frame)
            else:
                at = self._pass(found, syntax, self.header.elements, 0)

    def _next_frame(self) -> Elements:
        self.header.frames.append({})
        self.most = min(self.most + _MOST_OF_A_FRAME, _MOST_OF_ALL)
        return self.header.frames[-1]

    def _items(
        self,
        found: _Found,
        syntax: TransferSyntax,
        sink: Callable[[], Elements | None],
        depth: int = 0,
    ) -> int:
        """Walk through a sequence's items, each into a sink; return where the sequence ends."""
        if depth > _DEEPEST:
            raise InputError("more than 16 sequences lie within one another in its header")
        at = found.at
        end = self.window.end if found.length == UNDEFINED_LENGTH else found.at + found.length
        while at < end:
            item = self._element(at, syntax)
            at = item.at
            if item.tag == _SEQUENCE_END:
                return at
            if item.tag != _ITEM:
                raise _CutOffError
            at = self._item(item, syntax, sink(), depth)
        if found.length == UNDEFINED_LENGTH:
            raise _CutOffError
        return end

    def _item(self, item: _Found, syntax: TransferSyntax, into: Elements | None, depth: int) -> int:
        if item.length != UNDEFINED_LENGTH and into is None:
            return item.at + item.length
        end = self.window.end if item.length == UNDEFINED_LENGTH else item.at + item.length
        at = item.at
        while at < end:
            found = self._element(at, syntax)
            if found.tag == _ITEM_END:
                return found.at
            at = self._pass(found, syntax, into, depth + 1)
        if item.length == UNDEFINED_LENGTH:
            raise _CutOffError
        return end

    def _pass(
        self, found: _Found, syntax: TransferSyntax, into: Elements | None, depth: int
    ) -> int:
        """Keep an element, go into it, or pass over it; return where it ends."""
        nested = (
            depth > 0
            and into is not None
            and not found.tag >> 16 & 1
            and found.tag not in _OF_OTHER_IMAGES
        )
        if found.length == UNDEFINED_LENGTH:
            self._keep(found, syntax, into)
            if found.vr == b"UN":
                syntax = IMPLICIT
            return self._items(found, syntax, lambda: into if nested else None, depth + 1)
        end = found.at + found.length
        if end > self.window.end:
            raise _CutOffError
        if nested and (found.vr == b"SQ" or (not found.vr and self.is_sequence(found.tag))):
            return self._items(found, syntax, lambda: into, depth + 1)
        self._keep(found, syntax, into)
        return end

    def _keep(self, found: _Found, syntax: TransferSyntax, into: Elements | None) -> None:
        """Keep a wanted element; of a sequence or an endless value only that it is there."""
        if found.tag not in self.keep or into is None:
            return
        count = found.length if found.length <= _LONGEST_VALUE else 0
        into.setdefault(found.tag, Element(self.window.take(found.at, count), syntax.little))

    def _element(self, at: int, syntax: TransferSyntax) -> _Found:
        """Read tag, type and length of the element at a position."""
        self.count += 1
        if self.count > self.most:
            raise InputError(f"its header has more than {self.most} elements")
        start = self.window.take(at, 12)
        if len(start) < 8:
            raise _CutOffError
        order = syntax.byte_order
        group, number, length = (_LITTLE if syntax.little else _BIG).unpack_from(start)
        tag = group << 16 | number
        if group == 0xFFFE or not syntax.explicit:
            return _Found(tag, b"", at + 8, length)
        vr = start[4:6]
        if vr in LONG_VRS:
            if len(start) < 12:
                raise _CutOffError
            return _Found(tag, vr, at + 12, int.from_bytes(start[8:12], order))
        if not vr.isalpha():  # some writers fall back to implicit types within sequences
            return _Found(tag, b"", at + 8, length)
        return _Found(tag, vr, at + 8, int.from_bytes(start[6:8], order))


_LITTLE, _BIG = struct.Struct("<HHI"), struct.Struct(">HHI")
