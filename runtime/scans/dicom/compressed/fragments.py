"""Places of the compressed images in a file: the fragments of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import BinaryIO

from segmaformer.runtime.errors import InputError

Span = tuple[int, int]
"""Position of bytes in a file, and their number."""

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_HEAD_BYTES = 8
_MOST_FRAGMENTS = 4096
# First bytes of a JPEG, a JPEG-LS and a JPEG 2000 codestream.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")


def frame_spans(stream: BinaryIO, at: int, frames: int) -> list[list[Span]]:
    """Find the fragments of each frame.

    Parameters
    ----------
    stream
        The open file.
    at
        Position of the pixels' value: the table of offsets.
    frames
        Number of frames in the file.

    Returns
    -------
    list of list of Span
        Fragments of each frame, in order.

    Raises
    ------
    InputError
        The fragments are cut off, or cannot be divided among the frames.
    """
    spans = _spans(stream, at, 1 + frames * _MOST_FRAGMENTS)
    table, fragments = spans[0], spans[1:]
    if frames == 1 and fragments:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    firsts = _by_table(stream, table, fragments, frames) or _by_starts(stream, fragments)
    if len(firsts) != frames:
        raise InputError(f"its {len(fragments)} fragments cannot be divided among {frames} frames")
    return [fragments[a:b] for a, b in itertools.pairwise([*firsts, len(fragments)])]


def read_spans(stream: BinaryIO, spans: Sequence[Span]) -> bytes:
    """Read the fragments of a frame."""
    pieces = []
    for at, count in spans:
        stream.seek(at)
        pieces.append(stream.read(count))
    return b"".join(pieces)


def _spans(stream: BinaryIO, at: int, most: int) -> list[Span]:
    """Return the places of all items: the table of offsets, and the fragments."""
    end = stream.seek(0, 2)
    spans: list[Span] = []
    while len(spans) <= most:
        stream.seek(at)
        head = stream.read(_HEAD_BYTES)
        if spans and head.startswith(_END):
            return spans
        if len(head) < _HEAD_BYTES or not head.startswith(_ITEM):
            break
        length = int.from_bytes(head[4:], "little")
        at += _HEAD_BYTES
        if at + length > end:
            break
        spans.append((at, length))
        at += length
    if len(spans) > most:
        raise InputError(f"its pixels lie in more than {most} fragments")
    raise InputError("it is cut off or damaged: its compressed pixels end too early")


def _by_table(stream: BinaryIO, table: Span, fragments: Sequence[Span], frames: int) -> list[int]:
    """Return the first fragment of each frame by the table of offsets, if there is one."""
    at, length = table
    if length != 4 * frames or not fragments:
        return []
    stream.seek(at)
    content = stream.read(length)
    offsets = [int.from_bytes(content[i : i + 4], "little") for i in range(0, length, 4)]
    begin = fragments[0][0]
    numbers = {start - begin: number for number, (start, _) in enumerate(fragments)}
    firsts = [numbers.get(offset, -1) for offset in offsets]
    return firsts if firsts == sorted({0, *firsts}) else []


def _by_starts(stream: BinaryIO, fragments: Sequence[Span]) -> list[int]:
    """Return the fragments with which a codestream begins."""
    firsts = []
    for number, (at, _) in enumerate(fragments):
        stream.seek(at)
        if stream.read(4).startswith(_STARTS):
            firsts.append(number)
    return firsts if firsts[:1] == [0] else []
