"""Scans that come as bytes: files in a private folder, for as long as they are read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.byte_source import GZIP_MAGIC
from segmaformer.runtime.scans.dicom.folder import holds_dicom
from segmaformer.runtime.scans.file_kinds import START_BYTES
from segmaformer.runtime.scans.metaimage import is_metaimage
from segmaformer.runtime.scans.nifti_header import is_nifti
from segmaformer.runtime.scans.nrrd import is_nrrd
from segmaformer.runtime.scans.zip_of_images import is_zip, unpack_images

MOST_UNPACKED_BYTES = 8 << 30
"""Default limit of an unpacked zip, in bytes."""


@contextmanager
def kept_as_files(
    contents: Sequence[BinaryIO], *, most_unpacked_bytes: int = MOST_UNPACKED_BYTES
) -> Iterator[list[Path]]:
    """Keep scans as files during a block; errors of the block do not tell the folder.

    The bytes decide the ending. A zip becomes a folder of DICOM images.

    Parameters
    ----------
    contents
        NIfTI, NRRD, MetaImage, a DICOM file or a zip of DICOM files, one for each channel.
    most_unpacked_bytes
        Limit of each zip's content, in bytes.

    Yields
    ------
    list of Path
        File or folder of each, named ``scan`` or ``channel1``, ``channel2``, ...

    Raises
    ------
    TooLargeError
        A zip unpacks to more, see :func:`~segmaformer.runtime.scans.zip_of_images.unpack_images`.
    InputError
        A zip is damaged or holds no DICOM image.
    """
    with tempfile.TemporaryDirectory(prefix="sgmf-") as made:
        folder = Path(os.path.realpath(made))
        names = [f"channel{number}" for number in range(1, len(contents) + 1)]
        if len(contents) == 1:
            names = ["scan"]
        try:
            yield [
                _keep(content, folder / name, most_unpacked_bytes)
                for content, name in zip(contents, names, strict=True)
            ]
        except Exception as error:
            _hide(error, folder)
            raise


def _keep(content: BinaryIO, path: Path, most_unpacked_bytes: int) -> Path:
    start = content.read(START_BYTES)
    content.seek(0)
    if is_zip(start):
        path.mkdir()
        unpack_images(content, path, most_bytes=most_unpacked_bytes)
        if not holds_dicom(path):
            raise InputError(
                "the zip holds no DICOM image; NIfTI, NRRD and MetaImage files come as they are"
            )
        return path
    path = path.with_name(path.name + _suffix(start))
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    return path


def _suffix(start: bytes) -> str:
    """Return the ending for a file with these first bytes; a DICOM file needs none."""
    if is_nifti(start):
        return ".nii.gz" if start.startswith(GZIP_MAGIC) else ".nii"
    if is_nrrd(start):
        return ".nrrd"
    return ".mha" if is_metaimage(start) else ""


def without_folder(text: str, files: Sequence[Path]) -> str:
    """Take the folder of :func:`kept_as_files` out of a text about its files."""
    return _without(text, files[0].parent)


def _without(text: str, folder: Path) -> str:
    return text.replace(f"{folder}{os.sep}", "")


def _hide(error: Exception, folder: Path) -> None:
    """Take a folder out of the texts of an error."""
    error.args = tuple(
        _without(each, folder) if isinstance(each, str) else each for each in error.args
    )
    if isinstance(error, OSError) and isinstance(error.filename, str):
        error.filename = _without(error.filename, folder)
