"""Headers of NRRD files, and label maps in that format.

A header may be followed by the voxels (``.nrrd``) or name their file (``.nhdr``). Format:
http://teem.sourceforge.net/nrrd/format.html, versions 1 to 5.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.byte_source import ByteSource
from segmaformer.runtime.scans.compressed_labels import GZIP, deflated_planes
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.scan_file import ScanFile
from segmaformer.runtime.scans.text_header import TextHeader, header_lines, unplaced
from segmaformer.runtime.scans.volume import Affine, StatedSpacing, Volume, flip_world
from segmaformer.runtime.system.atomic import Target, atomic_file

_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n?")
# "name: value" is a field of the format, "name:=value" one of the writer's own.
_LINE = re.compile(r"([^:]+):(=?)\s*(.*)")
_UNSPACED_NAMES = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}
_MOST_AXES = 16
_C_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPES = {name: code for code, names in _C_TYPES.items() for name in names.split("|")}
_BYTE_ORDERS = {"little": "<", "big": ">"}
_COMPRESSED = {"raw": False, "gzip": True, "gz": True}
_SPACES = {
    "right-anterior-superior": "RAS",
    "left-anterior-superior": "LAS",
    "left-posterior-superior": "LPS",
}
# The space of a header that names none, by ITK's choice.
_UNNAMED_SPACE = "LPS"
# Kinds of an axis of channels; colours, complex numbers and tensors are not channels.
_CHANNEL_KINDS = ("list", "vector", "scalar", "stub", "none", "???")
# Kinds of a fourth axis that is not declared as channels.
_SPATIAL_KINDS = ("domain", "space")
_NO_DIRECTION = "none"
_MILLIMETRES = ("mm", "millimeter", "millimeters", "")

_WRITTEN_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}


def is_nrrd(start: bytes) -> bool:
    """Tell if a file that begins so is a NRRD of any version."""
    return start.startswith(b"NRRD00")


def read_header(path: Path) -> ScanFile:
    """Read and check the header of a NRRD file, attached or detached.

    An axis without a direction in space is taken as that of the channels. A fourth axis with a
    direction may be, if its length is the expected number. A missing origin is zero, as for other
    readers; without directions the axes are ITK's, with a remark.

    Raises
    ------
    InputError
        The file is no NRRD, damaged, not three-dimensional, not of real numbers, or encoded or
        divided in an unsupported way; or its detached file is missing, elsewhere, or shorter than
        promised.
    GeometryError
        The header names a space that is not anatomical, gives no voxel size, or has directions that
        are singular, not finite or not in millimetres.
    """
    header = _parse(path)
    (rank,) = header.integers("dimension", 1)
    if not 3 <= rank <= _MOST_AXES:
        raise InputError(f"{path} is {rank}-D; expected a 3-D scan")
    sizes = header.sizes("sizes", rank)
    axes = _read_axes(header, rank)
    spatial = [*axes.directions]
    if len(spatial) != 3:
        raise InputError(
            f"{path} has {len(spatial)} axes in space, with the sizes {[*sizes]}; expected a 3-D "
            "scan. Split it and give one file for each channel"
        )
    affine = _affine(header, axes)
    x, y, z = (sizes[axis] for axis in spatial)
    channel_axis = _channel_axis(header, sizes, axes)
    compressed = _is_compressed(header)  # before the byte order, which not every encoding has
    dtype = _dtype(header)
    data = _data(header, math.prod(sizes) * dtype.itemsize, compressed=compressed)
    # Only the affine states it, here without its rounding.
    a, b, c = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return ScanFile(
        path,
        (x, y, z),
        affine,
        dtype,
        data,
        channels=1 if channel_axis is None else sizes[channel_axis],
        channel_axis=sum(axis < channel_axis for axis in spatial)
        if channel_axis is not None
        else 3,
        channels_declared=channel_axis is None or channel_axis not in axes.fourth,
        remarks=axes.remarks,
        stated_spacing=StatedSpacing((a, b, c)),
    )


def write_labels(path: Target, labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume) -> None:
    """Write labels (X, Y, Z) of the scan `like` as one file, gzip inside, atomically."""
    affine = flip_world(like.affine, "LPS")
    directions = " ".join(_vector_text(step) for step in affine[:3, :3].T)
    lines = [
        "NRRD0004",
        f"type: {_WRITTEN_TYPES[labels.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, labels.shape))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector_text(affine[:3, 3])}",
    ]
    with atomic_file(path) as stream:
        stream.write("\n".join([*lines, "", ""]).encode("ascii"))
        stream.writelines(deflated_planes(labels, GZIP))


def _vector_text(values: npt.NDArray[np.float64]) -> str:
    # repr() of a float is the shortest text that gives the same float back.
    return f"({','.join(repr(float(value)) for value in values)})"


def _parse(path: Path) -> TextHeader:
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        if not _MAGIC.fullmatch(stream.readline(10)):
            raise InputError(
                f"{path} is not a NRRD file; expected NRRD0001 to NRRD0005 at its start"
            )
        for line in header_lines(stream, path):
            if not line:
                break
            if line.startswith("#"):
                continue
            _add_field(fields, line, path)
        return TextHeader(path, fields, stream.tell())


def _add_field(fields: dict[str, str], line: str, path: Path) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InputError(f"{path}: {line[:80]!r} is no line of a NRRD header; the file is damaged")
    name, own, value = match.groups()
    if own:
        return
    name = _UNSPACED_NAMES.get(name.lower(), name.lower())
    if name in fields:
        raise InputError(f"{path}: the header gives {name!r} twice; correct the step that wrote it")
    fields[name] = value.strip()


@dataclass(frozen=True)
class _Axes:
    """Axes that lie in space, and their directions.

    Attributes
    ----------
    directions
        Step along each axis in space, in the coordinates of `codes`.
    fourth
        Axes whose direction leaves the three dimensions of space.
    codes
        Letters of the directions that coordinates run towards.
    """

    directions: dict[int, tuple[float, ...]]
    fourth: tuple[int, ...]
    codes: str
    remarks: tuple[Finding, ...]


def _read_axes(header: TextHeader, rank: int) -> _Axes:
    codes = _space(header)
    stated = "space directions" in header.fields
    steps = _stated_steps(header, rank) if stated else _steps_by_spacing(header, rank)
    missing = [f"{name!r}" for name in ("space", "space directions") if not header.get(name)]
    in_space = {axis: step for axis, step in steps.items() if not any(step[3:])}
    beyond = tuple(axis for axis, step in steps.items() if any(step[3:]))
    if any(any(steps[axis][:3]) for axis in beyond):
        raise GeometryError(
            f"{header.path}: an axis runs through space and a fourth dimension at once; expected "
            "three axes in space. Convert the scan again from its source"
        )
    return _Axes(
        {axis: step[:3] for axis, step in in_space.items()},
        beyond,
        codes or _UNNAMED_SPACE,
        (unplaced(" and no ".join(missing)),) if missing else (),
    )


def _stated_steps(header: TextHeader, rank: int) -> dict[int, tuple[float, ...]]:
    """Return the direction of each axis that has one."""
    name = "space directions"
    words = re.findall(rf"{_NO_DIRECTION}|\([^()]*\)|\S+", header.text(name))
    if len(words) != rank:
        raise GeometryError(
            f"{header.path}: the header gives {len(words)} {name} for {rank} axes; "
            "correct the header or convert the scan again"
        )
    dimensions = _dimensions(header)
    return {
        axis: _vector(header, name, word, dimensions)
        for axis, word in enumerate(words)
        if word != _NO_DIRECTION
    }


def _steps_by_spacing(header: TextHeader, rank: int) -> dict[int, tuple[float, ...]]:
    """Return steps along the coordinates, one by one, for axes that have a spacing."""
    words = header.get("spacings").split()
    if len(words) != rank:
        raise GeometryError(
            f"{header.path}: the header has no 'space directions' and no spacing for each of "
            f"{rank} axes, so the size of a voxel is unknown. Convert the scan again"
        )
    spaced = [axis for axis, word in enumerate(words) if word.lower() != "nan"]
    text = " ".join(words[axis] for axis in spaced)
    spacings = header.numbers("spacings", len(spaced), text=text)
    dimensions = max(3, len(spaced))
    return {
        axis: tuple(spacing if place == index else 0.0 for index in range(dimensions))
        for place, (axis, spacing) in enumerate(zip(spaced, spacings, strict=True))
    }


def _dimensions(header: TextHeader) -> int:
    """Return the length of a vector in space: 3, or 4 if ITK wrote an image of four axes."""
    return 4 if header.get("space dimension") == "4" and not header.get("space") else 3


def _space(header: TextHeader) -> str:
    """Return the letters of the coordinates' directions; none if no space is named."""
    space = header.get("space").lower()
    codes = _SPACES.get(space, space.upper())
    if space and codes not in _SPACES.values():
        raise GeometryError(
            f"{header.path}: the header gives the space {space!r}; "
            f"expected one of {', '.join(_SPACES)}, so that left and right are known. Convert the "
            "scan again from its source, or correct the line if you know how the axes lie"
        )
    return codes


def _affine(header: TextHeader, axes: _Axes) -> Affine:
    units = re.findall(r'"([^"]*)"', header.get("space units"))
    if not all(unit.strip().lower() in _MILLIMETRES for unit in units):
        raise GeometryError(
            f"{header.path}: the header's space units are {units}; expected mm. Convert the scan "
            "to millimetres"
        )
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([*axes.directions.values()])
    name = "space origin"
    if name in header.fields:
        affine[:3, 3] = _vector(header, name, header.text(name), _dimensions(header))[:3]
    return flip_world(affine, axes.codes)


def _vector(header: TextHeader, name: str, text: str, dimensions: int) -> tuple[float, ...]:
    bracketed = re.fullmatch(r"\((.*)\)", text)
    words = bracketed.group(1).replace(",", " ") if bracketed else ""
    return header.numbers(name, dimensions, text=words)


def _channel_axis(header: TextHeader, sizes: tuple[int, ...], axes: _Axes) -> int | None:
    """Return the axis of the channels; None if there is one channel."""
    others = [axis for axis, size in enumerate(sizes) if axis not in axes.directions and size > 1]
    if not others:
        return None
    if len(others) > 1:
        raise InputError(
            f"{header.path} has the sizes {[*sizes]}, and axes {others} have no direction in "
            "space; expected at most one, that of the channels. Split the file"
        )
    kinds = header.get("kinds").lower().split()
    kind = kinds[others[0]] if len(kinds) == len(sizes) else "???"
    allowed = _CHANNEL_KINDS + (_SPATIAL_KINDS if others[0] in axes.fourth else ())
    if kind not in allowed:
        raise InputError(
            f"{header.path}: axis {others[0]} is of the kind {kind!r}; expected channels, of the "
            "kind list or vector. Convert the scan to one real number for each voxel"
        )
    return others[0]


def _dtype(header: TextHeader) -> np.dtype[Any]:
    name = header.text("type").lower()
    if name not in _TYPES:
        raise InputError(
            f"{header.path} holds {name!r} voxels; expected one real number for each voxel, "
            "integer, float or double"
        )
    code = _TYPES[name]
    if np.dtype(code).itemsize == 1:
        return np.dtype(code)
    order = header.text("endian").lower()
    if order not in _BYTE_ORDERS:
        raise InputError(f"{header.path}: the byte order is {order!r}; expected little or big")
    return np.dtype(_BYTE_ORDERS[order] + code)


def _is_compressed(header: TextHeader) -> bool:
    encoding = header.text("encoding").lower()
    if encoding not in _COMPRESSED:
        raise InputError(
            f"{header.path}: the encoding is {encoding!r}; expected raw or gzip. Save the scan in "
            "one of these"
        )
    return _COMPRESSED[encoding]


def _data(header: TextHeader, count: int, *, compressed: bool) -> ByteSource:
    """Find the `count` bytes of the voxels."""
    if header.get("line skip", "0") != "0":
        raise InputError(
            f"{header.path}: the header skips lines of the voxels' file; expected none. "
            "Save the scan without them"
        )
    path, start = _data_file(header), 0 if "data file" in header.fields else header.end
    (skip,) = header.integers("byte skip", 1, default="0")
    if skip == -1 and not compressed:  # the voxels are at the end of the file
        return ByteSource.at_end(path, count, after=start)
    if skip < 0:
        raise InputError(f"{header.path}: the header skips {skip} bytes; expected 0 or more")
    return ByteSource(path, start, True, skip) if compressed else ByteSource(path, start + skip)


def _data_file(header: TextHeader) -> Path:
    if "data file" not in header.fields:
        return header.path
    return header.detached_file("data file")
