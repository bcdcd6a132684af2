"""Size that a compressed image states itself.

Decoders make an image of that size, whatever the file's header says. So both are compared before.
"""

from __future__ import annotations

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.encoding import Coding

_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_BOX = b"\0\0\0\x0cjP  "
# Markers that start a frame, of JPEG and of JPEG-LS, and markers without a length.
_FRAME_STARTS = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}
_LOSSY_FRAMES, _LOSSY_BITS = {0xC0, 0xC1, 0xC2}, 8
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
_RLE_HEADER_BYTES = 64
# Largest expansion: of RLE's pairs of bytes, and of large images in other codings.
_RLE_EXPANSION, _EXPANSION = 64, 10_000
_SMALL_BYTES = 1 << 24


def check_codestream(data: bytes, coding: Coding, rows: int, columns: int, width: int) -> None:
    """Refuse a compressed image that is not one grey image of the size its header states.

    Parameters
    ----------
    data
        Its bytes.
    coding
        How they are compressed.
    rows, columns
        Size that the header states.
    width
        Number of bytes of a stored number.

    Raises
    ------
    InputError
        The image has another size, several components, or states none.
    """
    expansion = _RLE_EXPANSION if coding == "rle" else _EXPANSION
    if rows * columns * width > max(len(data) * expansion, _SMALL_BYTES):
        raise InputError(f"an image of {rows} x {columns} is said to lie in {len(data)} bytes")
    if coding == "rle":
        segments = int.from_bytes(data[:4], "little")
        if len(data) < _RLE_HEADER_BYTES or segments != width:
            raise InputError(f"an image has {segments} RLE segments; expected {width}")
        return
    if coding == "jpeg2000":
        found = _jpeg2000_size(data)
    else:
        at = _jpeg_frame(data)
        found = None if at is None else _jpeg_size(data, at)
        if at is not None and data[at + 1] in _LOSSY_FRAMES and data[at + 4] != _LOSSY_BITS:
            raise InputError(
                f"an image is compressed by lossy JPEG of {data[at + 4]} bits, and only "
                f"{_LOSSY_BITS} can be decoded; have its archive send it in another coding"
            )
    if found is None:
        raise InputError("an image is damaged: its compressed data state no size")
    if found != (rows, columns, 1):
        raise InputError(
            f"an image is compressed as {found[0]} rows, {found[1]} columns and {found[2]} "
            f"components; its header says {rows} rows and {columns} columns"
        )


def _jpeg_frame(data: bytes) -> int | None:
    """Return the position of the first frame header of JPEG or JPEG-LS."""
    if not data.startswith(_JPEG_START):
        return None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        elif marker in _FRAME_STARTS and at + 10 <= len(data):
            return at
        else:
            at += 2 + _number(data, at + 2, 2)
    return None


def _jpeg_size(data: bytes, at: int) -> tuple[int, int, int]:
    """Return rows, columns and components by a frame header."""
    return _number(data, at + 5, 2), _number(data, at + 7, 2), data[at + 9]


def _jpeg2000_size(data: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components by the first marker segment of JPEG 2000."""
    at = data.find(_J2K_START, 0, 4096) if data.startswith(_JP2_BOX) else 0
    if not data.startswith(_J2K_START, max(at, 0)) or len(data) < at + 42:
        return None
    right, bottom, left, top = (_number(data, at + 8 + 4 * index, 4) for index in range(4))
    return bottom - top, right - left, _number(data, at + 40, 2)


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "big")
