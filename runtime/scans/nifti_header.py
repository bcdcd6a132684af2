"""Checked reading of NIfTI headers.

A header is a few numbers from an unknown program. Each one that decides how much is read, how it is
interpreted or where it lies is checked here, before anything is allocated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.byte_source import GZIP_MAGIC, ByteSource, is_gzip
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.scan_file import ScanFile
from segmaformer.runtime.scans.volume import Affine, StatedSpacing

# Header codes of metre and micrometre; all others are taken as millimetre.
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
_SPACE_UNIT_BITS = 0b111
_LEAST_SLOPE_OF_ITK = 2.0**-52
_VECTOR_INTENT = 1007
# Intents of numbers that are no channels.
_NO_CHANNELS = {
    1004: "matrices",
    1005: "symmetric matrices",
    1006: "displacements",
    1008: "points",
    1009: "triangles",
    1010: "quaternions",
    2001: "a time series",
    2003: "RGB colours",
    2004: "RGBA colours",
}
# Steps that writers state for an axis that is not time.
_NO_TIME_STEP = (0.0, 1.0)
_SPLIT = "Split it and give one file for each channel"
# Header class of each version, and the place of its magic bytes.
_VERSIONS: tuple[tuple[Any, slice, bytes], ...] = (
    (nibabel.Nifti1Header, slice(344, 348), b"n+1\0"),
    (nibabel.Nifti2Header, slice(4, 12), b"n+2\0\r\n\x1a\n"),
)

_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())


def read_header(path: Path) -> ScanFile:
    """Read and check the header of a single-file NIfTI-1 or NIfTI-2.

    The header in the result is nibabel's, repaired if nibabel can (such as a qfac of 0). One axis
    beyond the third may be longer than 1: that of channels, which the header declares by the intent
    of a vector.

    Raises
    ------
    InputError
        The file is no NIfTI, damaged, not three-dimensional, a time series, not of real numbers,
        or shorter than its header promises.
    GeometryError
        The affine is singular or not finite, or a spacing is zero.
    """
    packed = is_gzip(path)
    with ByteSource(path, compressed=packed).open() as stream:
        header = _parse(stream.read(nibabel.Nifti2Header.sizeof_hdr), path)
    lengths, dtype, offset = _lengths(header, path), _dtype(header, path), _offset(header, path)
    channels, declared = _channels(header, lengths, path)
    place = {"skip": offset} if packed else {"start": offset}
    data = ByteSource(path, compressed=packed, **place)
    slope, intercept = _scaling(header, path)
    remarks = (*_remarks_on_scaling(header), *_remarks_on_steps(header))
    affine = _affine(header, path)
    x, y, z = lengths[:3]
    return ScanFile(
        path,
        (x, y, z),
        affine,
        dtype,
        data,
        slope,
        intercept,
        channels,
        channels_declared=declared,
        remarks=remarks,
        header=header,
        stated_spacing=_stated_spacing(header),
    )


def is_nifti(start: bytes) -> bool:
    """Tell if a file that begins so may be a NIfTI: of the formats here, only it is gzipped."""
    return start.startswith(GZIP_MAGIC) or _version(start) is not None


def _parse(block: bytes, path: Path) -> Any:
    if not block:
        raise InputError(f"{path} is empty; copy it again from its source")
    version = _version(block)
    if version is None:
        raise InputError(f"{path} is not a NIfTI file; expected .nii or .nii.gz")
    kind, endianness = version
    return kind(block[: kind.sizeof_hdr], endianness, check=False)


def _version(block: bytes) -> tuple[Any, str] | None:
    """Return header class and byte order, by the size that the header states of itself."""
    for kind, place, magic in _VERSIONS:
        for endianness, order in (("<", "little"), (">", "big")):
            size = int.from_bytes(block[:4], cast(Any, order))
            if size == kind.sizeof_hdr <= len(block) and block[place] == magic:
                return kind, endianness
    return None


def _lengths(header: Any, path: Path) -> list[int]:
    rank = int(header["dim"][0])
    lengths = [int(length) for length in header["dim"][1 : rank + 1]]
    if not 1 <= rank <= 7 or min(lengths) < 1:
        raise InputError(f"{path}: the header gives the impossible shape {lengths}")
    if rank < 3:
        raise InputError(f"{path} is {rank}-D, with shape {lengths}; expected a 3-D scan")
    return lengths


def _channels(header: Any, lengths: list[int], path: Path) -> tuple[int, bool]:
    """Return the number of channels, and whether the header declares that they are channels."""
    axes = [axis for axis, length in enumerate(lengths) if axis > 2 and length > 1]
    if not axes:
        return 1, True
    what = f"{path} is {len(lengths)}-D, with shape {lengths}"
    intent = int(header["intent_code"])
    if len(axes) > 1:
        raise InputError(f"{what}; expected a 3-D scan, or channels along one more axis. {_SPLIT}")
    if intent in _NO_CHANNELS:
        raise InputError(
            f"{what}, and holds {_NO_CHANNELS[intent]} by its intent; expected a 3-D scan of real "
            f"numbers. {_SPLIT}"
        )
    step = float(header["pixdim"][4])
    if axes == [3] and math.isfinite(step) and abs(step) not in _NO_TIME_STEP:
        raise InputError(
            f"{what}, a time series by its header, which gives a step of {step:g} along the "
            f"fourth axis; expected a 3-D scan. {_SPLIT}"
        )
    return lengths[axes[0]], intent == _VECTOR_INTENT


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    try:
        dtype = cast("np.dtype[Any]", header.get_data_dtype())
    except KeyError:
        code = int(header["datatype"])
        raise InputError(f"{path}: the header's data type {code} does not exist") from None
    if dtype.kind not in "iuf":
        name = header.get_value_label("datatype")
        raise InputError(f"{path} holds {name} voxels; expected one real number for each voxel")
    return dtype


def _offset(header: Any, path: Path) -> int:
    offset = float(header["vox_offset"])
    least = header.single_vox_offset
    if not least <= offset < math.inf:
        raise InputError(
            f"{path}: the header says that voxels start at byte {offset:g}; "
            f"expected {least} or more. The file is damaged, or its writer is at fault"
        )
    return int(offset)


def _scaling(header: Any, path: Path) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError:
        raise InputError(
            f"{path}: the header's intercept scl_inter is not finite; expected a number. Correct "
            "the header or convert the scan again"
        ) from None
    return (1.0, 0.0) if slope is None else (slope, intercept)


def _remarks_on_scaling(header: Any) -> Iterator[Finding]:
    """Warn of a scaling that ITK reads otherwise: it takes a slope of nearly 0 as 1."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    used = math.isfinite(slope) and slope != 0
    if (abs(slope) < _LEAST_SLOPE_OF_ITK) if used else (math.isfinite(intercept) and intercept):
        what = f"multiplied by {slope:g}" if used else "not scaled, as the standard of NIfTI says"
        yield Finding(
            "warn",
            f"the header's scl_slope is {slope:g} and its scl_inter {intercept:g}; intensities "
            f"are {what}. ITK, and so SimpleITKIO of nnU-Net, takes the slope as 1 and adds the "
            "other",
            "Look at the intensities, and set scl_slope to 1 or scl_inter to 0 in the header.",
        )


def _remarks_on_steps(header: Any) -> Iterator[Finding]:
    """Warn of voxel sizes below zero, which ITK takes as a reversed axis."""
    steps = header["pixdim"][1:4]
    if (steps < 0).any():
        yield Finding(
            "warn",
            f"the header gives the voxel size {steps.tolist()}, and sizes are above zero; their "
            "signs are ignored. Another program may take an axis as reversed",
            "Correct pixdim in the header, or convert the scan again from its source.",
        )


def _affine(header: Any, path: Path) -> Affine:
    steps = header["pixdim"][1:4]
    if not (np.isfinite(steps).all() and steps.all()):
        raise GeometryError(
            f"{path}: the header gives the voxel size {steps.tolist()}; expected three finite "
            "numbers other than zero. Correct the header or convert the scan again"
        )
    try:
        header.check_fix(logger=_logger)
        affine = np.array(header.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(f"{path}: the header's position cannot be used: {error}") from None
    affine[:3] *= _mm_per_unit(header)
    return affine


def _mm_per_unit(header: Any) -> float:
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) & _SPACE_UNIT_BITS, 1.0)


def _stated_spacing(header: Any) -> StatedSpacing:
    """Return the voxel edges of pixdim, from a repaired header."""
    steps = header["pixdim"][1:4]
    x, y, z = (abs(float(step)) for step in steps)
    return StatedSpacing((x, y, z), _mm_per_unit(header), single=steps.dtype.itemsize == 4)
