"""Format of an image's stored numbers, and where they lie in its file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.elements import PIXEL_DATA, UNDEFINED_LENGTH, PixelPlace
from segmaformer.runtime.scans.dicom.opening import OpenedFile

_GREY = ("MONOCHROME1", "MONOCHROME2")
_WIDTHS = (8, 16, 32)
# Whole numbers up to this one are float32's own.
_MOST_WHOLE = 1 << 24


@dataclass(frozen=True)
class PixelFormat:
    """Format of the numbers that an image stores.

    Attributes
    ----------
    rows, columns
        Size of an image.
    bits_allocated, bits_stored, high_bit
        Bits of a number, those of them that count, and the highest of those.
    signed
        Whether they are two's complements.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of an image that is not compressed."""
        return self.rows * self.columns * self.bits_allocated // 8

    def dtype(self, order: str) -> np.dtype[Any]:
        """Return the type of the stored numbers, unsigned, in a byte order, ``<`` or ``>``."""
        return np.dtype(f"{order}u{self.bits_allocated // 8}")

    def numbers(self, stored: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[Any]:
        """Return the numbers that stored ones mean; bits beside those that count are dropped."""
        native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        width, above = self.bits_allocated, self.bits_allocated - 1 - self.high_bit
        signed = native.view(f"i{width // 8}") if self.signed else native
        if self.bits_stored == width:
            return signed
        # Shifted up, bits above are lost; shifted down, the sign fills their place.
        shifted = (native << above).view(signed.dtype)
        shifted >>= width - self.bits_stored
        return shifted

    def intensities(
        self, stored: npt.NDArray[np.unsignedinteger[Any]], slope: float, intercept: float
    ) -> npt.NDArray[np.float32]:
        """Return stored numbers times slope plus intercept, rounded once from float64."""
        numbers = self.numbers(stored)
        # With whole numbers that float32 holds, its arithmetic rounds nothing.
        largest = abs(slope) * 2**self.bits_stored + abs(intercept)
        is_exact = slope % 1 == intercept % 1 == 0 and largest <= _MOST_WHOLE
        values: Any = numbers.astype(np.float32 if is_exact else np.float64)
        with np.errstate(over="ignore"):  # infinities are reported as such
            if slope != 1:
                values *= slope
            values += intercept
            scaled: npt.NDArray[np.float32] = values.astype(np.float32, copy=False)
        return scaled


def check_format(found: PixelFormat) -> PixelFormat:
    """Return a format after a check of its sizes.

    Raises
    ------
    InputError
        An image is empty, or the bits make no whole number of 8, 16 or 32.
    """
    if not found.rows or not found.columns:
        raise InputError(f"its images have {found.rows} rows and {found.columns} columns")
    if found.bits_allocated not in _WIDTHS:
        raise InputError(
            f"its numbers have {found.bits_allocated} bits (BitsAllocated); expected 8, 16 or 32"
        )
    if not 0 < found.bits_stored <= found.high_bit + 1 <= found.bits_allocated:
        raise InputError(
            f"of its numbers' {found.bits_allocated} bits, {found.bits_stored} are stored below "
            f"bit {found.high_bit} (BitsStored, HighBit), which cannot be"
        )
    return found


def check_grey(samples: int | None, interpretation: str) -> None:
    """Refuse images with colours or a palette.

    Raises
    ------
    InputError
        A voxel has several numbers, or one that is no intensity.
    """
    if samples not in (None, 1) or (interpretation and interpretation not in _GREY):
        raise InputError(
            f"its images are in colour ({interpretation or f'{samples} samples for each pixel'}); "
            "expected MONOCHROME2 or MONOCHROME1"
        )


def check_place(
    place: PixelPlace | None, file: OpenedFile, form: PixelFormat, frames: int, end: int
) -> PixelPlace:
    """Return the pixels' place after a check that it can hold all frames.

    Parameters
    ----------
    place
        Place that the header states.
    file
        The file.
    form
        Format of its images.
    frames
        Number of images in it.
    end
        Number of bytes of its data set; that of a deflated one is unknown.

    Raises
    ------
    InputError
        There are no pixels, they are no integers, or fewer than the header promises.
    """
    if place is None:
        raise InputError("it has no pixels")
    if place.tag != PIXEL_DATA:
        raise InputError("its pixels are floating-point numbers; expected integers")
    syntax = file.syntax
    if syntax is None:
        raise InputError(f"its transfer syntax {file.syntax_uid} cannot be decoded")
    if (syntax.coding != "native") != (place.length == UNDEFINED_LENGTH):
        raise InputError("its pixels are not encoded as its transfer syntax says")
    if syntax.coding == "native":
        promised = math.prod((frames, form.frame_bytes))
        held = place.length if syntax.deflated else min(place.length, end - place.at)
        if held < promised:
            raise InputError(
                f"it is cut off or damaged: its header promises {promised} bytes of pixels, and "
                f"it holds {held}; copy it again from its source"
            )
        # Padding is shorter than another image.
        if place.length > promised + max(1, form.frame_bytes // 2):
            raise InputError(
                f"its header promises {promised} bytes of pixels, and it holds {place.length}"
            )
    return place
