"""Voxels of a chosen series, an image at a time."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.run_lengths import decode_run_lengths
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.compressed.codestream import check_codestream
from segmaformer.runtime.scans.dicom.compressed.decoding import CompressedImage, decoded
from segmaformer.runtime.scans.dicom.compressed.fragments import frame_spans, read_spans
from segmaformer.runtime.scans.dicom.elements import PixelPlace
from segmaformer.runtime.scans.dicom.image_file import ImageFile, Plane
from segmaformer.runtime.scans.dicom.opening import LONGEST_HEADER
from segmaformer.runtime.scans.dicom.pixels import PixelFormat
from segmaformer.runtime.scans.scan_file import PlaneSource, file_state
from segmaformer.runtime.system.extras import require_extra

_CHUNK_BYTES = 1 << 16
_Stored = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class SeriesPixels(PlaneSource):
    """Voxels of a series.

    Attributes
    ----------
    path
        Folder or file that the series was chosen from.
    images
        Images in the order of the volume.
    """

    path: Path
    images: tuple[Plane, ...]

    def planes(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Read the images in the order of their files.

        Yields
        ------
        index, plane
            Index of an image in the volume, and its intensities (X, Y): slope and intercept are
            applied in float64 before rounding.

        Raises
        ------
        InputError
            A file is damaged, or changed since its header was read.
        """
        for index, stored in self._stored():
            image = self.images[index]
            yield index, _format(image.file).intensities(stored, image.slope, image.intercept).T
        for file in {image.file.path: image.file for image in self.images}.values():
            if file_state(file.path) != file.state:
                raise InputError(
                    f"{file.path} was replaced or changed while it was read; wait until its writer "
                    "has finished, and try again"
                )

    def _stored(self) -> Iterator[tuple[int, _Stored]]:
        syntaxes = {image.file.opened.syntax for image in self.images}
        codings = {syntax.coding for syntax in syntaxes if syntax is not None}
        if codings == {"native"}:
            for file, wanted in self._by_file():
                yield from _native_frames(file, wanted)
        elif codings == {"rle"}:
            yield from map(_run_length_frame, self._compressed())
        elif not codings & {"native", "rle"}:
            for syntax in syntaxes:
                if syntax is not None and syntax.decoder:
                    require_extra(syntax.decoder, extra="dicom")
            yield from decoded(self._compressed(), len(self.images))
        else:
            raise InputError(
                f"{self.path} holds a series that is compressed in part; save it again in one way"
            )

    def _by_file(self) -> Iterator[tuple[ImageFile, dict[int, int]]]:
        """Return each file with the wanted frames, and their index in the volume."""
        order = sorted(
            range(len(self.images)),
            key=lambda index: (os.fsencode(self.images[index].file.path), self.images[index].frame),
        )
        for _, group in groupby(order, key=lambda index: self.images[index].file.path):
            indices = [*group]
            wanted = {self.images[index].frame: index for index in indices}
            yield self.images[indices[0]].file, wanted

    def _compressed(self) -> Iterator[CompressedImage]:
        for file, wanted in self._by_file():
            with file.path.open("rb") as stream:
                try:
                    at = file.opened.at + _place(file).at
                    spans = frame_spans(stream, at, file.frames)
                except InputError as error:
                    raise InputError(f"{file.path}: {error}") from None
            for frame, index in wanted.items():
                yield CompressedImage(index, file, _format(file), spans[frame])


def _native_frames(file: ImageFile, wanted: dict[int, int]) -> Iterator[tuple[int, _Stored]]:
    form, place, syntax = _format(file), _place(file), file.opened.syntax
    order = ">" if syntax is not None and not syntax.little else "<"
    with file.path.open("rb") as stream:
        deflated = syntax is not None and syntax.deflated
        source = _Inflating(stream, file) if deflated else _Plain(stream, file.opened.at)
        for frame in sorted(wanted):
            content = source.read_at(place.at + frame * form.frame_bytes, form.frame_bytes)
            if len(content) < form.frame_bytes:
                raise InputError(f"{file.path} is cut off: its pixels end too early")
            if order == ">" and form.bits_allocated == 8 and place.vr == b"OW":
                content = np.frombuffer(content, ">u2").astype("<u2").tobytes()
            stored = np.frombuffer(content, form.dtype(order))
            yield wanted[frame], stored.reshape(form.rows, form.columns)
        if deflated and source.read_at(place.at + place.length + LONGEST_HEADER, 1):
            raise InputError(
                f"{file.path} unpacks to far more than its header promises; it is not what it seems"
            )


def _run_length_frame(image: CompressedImage) -> tuple[int, _Stored]:
    """Decode here: no memory is taken but for the image, whose size is checked before."""
    path, form = image.file.path, image.format
    try:
        with path.open("rb") as stream:
            data = read_spans(stream, image.spans)
        check_codestream(data, "rle", form.rows, form.columns, form.bits_allocated // 8)
        stored = decode_run_lengths(data, form.rows * form.columns, form.bits_allocated // 8)
    except (InputError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    return image.index, stored.reshape(form.rows, form.columns)


class _Plain:
    """Bytes of a data set as they lie in the file."""

    def __init__(self, stream: BinaryIO, first: int):
        self._stream, self._first = stream, first

    def read_at(self, at: int, count: int) -> bytes:
        self._stream.seek(self._first + at)
        return self._stream.read(count)


class _Inflating:
    """Bytes of a deflated data set, unpacked in rising order and no further than asked."""

    def __init__(self, stream: BinaryIO, file: ImageFile):
        self._stream, self._path = stream, file.path
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._packed = b""
        self._at = 0
        stream.seek(file.opened.at)

    def read_at(self, at: int, count: int) -> bytes:
        try:
            while self._at < at:
                if not self._unpack(min(_CHUNK_BYTES, at - self._at)):
                    return b""
            pieces = []
            while count and (piece := self._unpack(count)):
                pieces.append(piece)
                count -= len(piece)
            return b"".join(pieces)
        except zlib.error as error:
            raise InputError(f"{self._path} is damaged: it cannot be unpacked") from error

    def _unpack(self, most: int) -> bytes:
        while not self._inflater.eof:
            packed = self._packed or self._stream.read(_CHUNK_BYTES)
            piece = self._inflater.decompress(packed, most)
            self._packed = self._inflater.unconsumed_tail
            if piece or not packed:
                self._at += len(piece)
                return piece
        return b""


def _format(file: ImageFile) -> PixelFormat:
    if file.format is None:
        raise InputError(f"{file.path}: {file.fault}")
    return file.format


def _place(file: ImageFile) -> PixelPlace:
    if file.pixels is None:
        raise InputError(f"{file.path}: {file.fault}")
    return file.pixels
