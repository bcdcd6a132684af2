"""RLE of DICOM: what another encoder packed, and anyone's bytes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime.bindings.run_lengths import decode_run_lengths

Runs = list[tuple[int, int]]


def packed(plane: bytes, literals: int) -> bytes:
    """Pack bytes by PackBits: runs of at least three as runs, the rest in pieces of a length."""
    out, at = b"", 0
    while at < len(plane):
        run = len(plane[at : at + 128]) - len(plane[at : at + 128].lstrip(plane[at : at + 1]))
        if run >= 3:
            out += bytes([257 - run, plane[at]])
            at += run
        else:
            piece = plane[at : at + literals]
            out += bytes([len(piece) - 1]) + piece
            at += len(piece)
    return out


def encoded(numbers: np.ndarray, literals: int = 5) -> bytes:
    """Encode numbers as DICOM does: a header of 16 integers, and a segment for each byte."""
    width = numbers.itemsize
    planes = numbers.astype(numbers.dtype.newbyteorder(">")).view("u1").reshape(-1, width).T
    segments = [packed(plane.tobytes(), literals) for plane in planes]
    starts = np.cumsum([64, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[: width + 1] = [width, *starts]
    return header.tobytes() + b"".join(segments)


runs = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 300)), min_size=1, max_size=20)


@given(runs=runs, width=st.sampled_from([1, 2, 4]), literals=st.integers(1, 128))
@settings(max_examples=100)
def test_numbers_come_back(runs: Runs, width: int, literals: int) -> None:
    values, lengths = zip(*runs, strict=True)
    numbers = np.repeat(np.array(values, "u8").astype(f"<u{width}"), lengths)
    found = decode_run_lengths(encoded(numbers, literals), len(numbers), width)
    np.testing.assert_array_equal(found, numbers)
    assert found.dtype == numbers.dtype


@given(
    data=st.binary(max_size=300),
    count=st.integers(0, 500),
    width=st.sampled_from([1, 2, 4]),
    cut=st.integers(0, 300),
)
@settings(max_examples=200)
def test_any_bytes_are_decoded_or_refused(data: bytes, count: int, width: int, cut: int) -> None:
    starts = [width, 64, *(64 + 40 * place for place in range(1, width))]
    header = np.pad(np.array(starts, "<u4"), (0, 15 - width)).tobytes()
    for content in (data, header + data, encoded(np.arange(count, dtype="<u4"))[:cut]):
        with contextlib.suppress(ValueError):
            assert len(decode_run_lengths(content, count, width)) == count


NUMBERS = np.arange(300, dtype="<u2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header is cut off"),
        (encoded(NUMBERS.astype("u1")), "another number of RLE segments"),
        (encoded(NUMBERS)[:-9], "ends before its image"),
        (encoded(NUMBERS[:-1]), "ends before its image"),
        (b"\2\0\0\0" + b"\x40\0\0\0" + b"\x30\0\0\0" + bytes(90), "lie askew"),
        (b"\2\0\0\0" + b"\x40\0\0\0" + b"\xff\xff\xff\xff" + bytes(90), "lie askew"),
    ],
)
def test_what_is_damaged_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_run_lengths(content, len(NUMBERS), 2)


def test_bytes_behind_an_image_and_codes_without_effect_are_passed_over() -> None:
    numbers = np.arange(40, dtype="u1")
    content = encoded(numbers)[:64] + b"\x80" + encoded(numbers)[64:] + b"\x05padding"
    np.testing.assert_array_equal(decode_run_lengths(content, 40, 1), numbers)
