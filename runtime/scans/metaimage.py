"""Headers of MetaImage files, and label maps in that format.

A header may be followed by the voxels (``.mha``) or name their file (``.mhd``). Format:
https://itk.org/Wiki/ITK/MetaIO/Documentation. If that leaves a choice, the choice is ITK's;
coordinates run towards left, posterior and superior.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.byte_source import ByteSource
from segmaformer.runtime.scans.compressed_labels import ZLIB, deflated_planes
from segmaformer.runtime.scans.scan_file import ScanFile
from segmaformer.runtime.scans.text_header import TextHeader, header_lines, unplaced
from segmaformer.runtime.scans.volume import Affine, StatedSpacing, Volume, flip_world
from segmaformer.runtime.spec import Spacing
from segmaformer.runtime.system.atomic import Target, atomic_file

_NAME = re.compile(r"[ \t]*(\w+)[ \t]*[=:]")
_EARLY_FIELDS = re.compile(rb"^[ \t]*(NDims|DimSize)[ \t]*[=:]", re.MULTILINE)
_EARLY_BYTES = 4096
_LAST_FIELD = "ElementDataFile"
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_WRITTEN_TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "float32": "MET_FLOAT"}
_FLAGS = {"t": True, "1": True, "f": False, "0": False}
# Names that older and newer writers give to the same field.
_MATRIX_NAMES = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN_NAMES = ("Offset", "Position", "Origin")
_ORDER_NAMES = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SCALING = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
_FIELDS = frozenset(
    [
        *("ObjectType", "NDims", "DimSize", "DistanceUnits", "ElementSpacing", "ElementType"),
        *("BinaryData", "CompressedData", "HeaderSize", "ElementNumberOfChannels", _LAST_FIELD),
        *(*_MATRIX_NAMES, *_ORIGIN_NAMES, *_ORDER_NAMES, *_SCALING),
    ]
)
_MILLIMETRES = ("mm", "?", "")
_MOST_AXES = 10


def is_metaimage(start: bytes) -> bool:
    """Tell if a file that begins so is a MetaImage."""
    return _EARLY_FIELDS.search(start) is not None


def read_header(path: Path) -> ScanFile:
    """Read and check a MetaImage header, with its voxels behind it or in another file.

    ``AnatomicalOrientation`` repeats the matrix in letters, and is not read. A missing offset is
    zero; without a matrix the axes are ITK's, with a remark. One axis beyond the third may be
    longer than 1, and hold channels if its length is the expected number.

    Raises
    ------
    InputError
        The file is no MetaImage, damaged, not three-dimensional, not of real numbers, or divided in
        an unsupported way; or its detached file is missing, elsewhere, or shorter than promised.
    GeometryError
        The spacing is missing, or the matrix or the spacing is singular, not finite or not in
        millimetres.
    """
    header = _parse(path)
    (rank,) = header.integers("NDims", 1)
    if not 3 <= rank <= _MOST_AXES:
        raise InputError(f"{path} is {rank}-D; expected a 3-D scan")
    sizes = header.sizes("DimSize", rank)
    (values,) = header.sizes("ElementNumberOfChannels", 1, default="1")
    if sum(length > 1 for length in (*sizes[3:], values)) > 1:
        raise InputError(
            f"{path} is {rank}-D, with shape {[*sizes]} and {values} numbers for each voxel; "
            "expected a 3-D scan, or channels along one more axis. Split it and give one file for "
            "each channel"
        )
    beyond = math.prod(sizes[3:])
    _check_plain(header)
    dtype = _dtype(header)
    data = _data(header, math.prod((*sizes, values)) * dtype.itemsize)
    x, y, z = sizes[:3]
    spacing_mm = _spacing(header, rank)
    return ScanFile(
        path,
        (x, y, z),
        _affine(header, rank, spacing_mm),
        dtype,
        data,
        channels=beyond * values,
        channel_axis=3 if beyond > 1 else 0,
        channels_declared=beyond == 1,
        remarks=() if _has_any(header, _MATRIX_NAMES) else (unplaced(repr(_MATRIX_NAMES[0])),),
        stated_spacing=StatedSpacing(spacing_mm),
    )


def write_labels(path: Target, labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume) -> None:
    """Write labels (X, Y, Z) of the scan `like` as one compressed file, atomically."""
    affine = flip_world(like.affine, "LPS")
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    packed = [*deflated_planes(labels, ZLIB)]
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {sum(map(len, packed))}",
        f"TransformMatrix = {_words((affine[:3, :3] / spacing_mm).T)}",
        f"Offset = {_words(affine[:3, 3])}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_words(spacing_mm)}",
        f"DimSize = {' '.join(map(str, labels.shape))}",
        f"ElementType = {_WRITTEN_TYPES[labels.dtype.name]}",
        f"{_LAST_FIELD} = LOCAL",
    ]
    with atomic_file(path) as stream:
        stream.write("\n".join([*lines, ""]).encode("ascii"))
        stream.writelines(packed)


def _words(values: npt.NDArray[np.float64]) -> str:
    # repr() of a float is the shortest text that gives the same float back.
    return " ".join(repr(float(value)) for value in values.flat)


def _parse(path: Path) -> TextHeader:
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        if not is_metaimage(stream.read(_EARLY_BYTES)):
            raise InputError(f"{path} is not a MetaImage file; expected a header with 'NDims = 3'")
        stream.seek(0)
        for line in header_lines(stream, path):
            _add_field(fields, line, path)
            if _LAST_FIELD in fields:
                return TextHeader(path, fields, stream.tell())
    raise InputError(f"{path}: the header has no {_LAST_FIELD!r} at its end; the file was cut off")


def _add_field(fields: dict[str, str], line: str, path: Path) -> None:
    match = _NAME.match(line)
    if match is None or match.group(1) not in _FIELDS:  # such as DICOM tags, which ITK adds
        return
    name, value = match.group(1), line[match.end() :].strip()
    if fields.setdefault(name, value) != value:
        raise InputError(f"{path}: the header gives {name!r} twice; correct the step that wrote it")


def _check_plain(header: TextHeader) -> None:
    """Refuse a header that describes no image of plain numbers."""
    kind = header.get("ObjectType", "Image")
    if kind.lower() != "image":
        raise InputError(f"{header.path} describes a {kind!r}; expected an Image")
    if not _flag(header, "BinaryData", default=True):
        raise InputError(f"{header.path} holds its voxels as text; save it as binary")
    for name, plain in _SCALING.items():
        if name in header.fields and not _equals(header.text(name), plain):
            raise InputError(
                f"{header.path}: the header scales intensities by {name} = {header.text(name)}, "
                "which readers of MetaImage do not do. Save the scan with the scaling applied"
            )


def _equals(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False


def _flag(header: TextHeader, name: str, *, default: bool) -> bool:
    text = header.get(name, str(default))
    if text[:1].lower() not in _FLAGS:
        raise InputError(
            f"{header.path}: the header gives {name!r} as {text!r}; expected True or False"
        )
    return _FLAGS[text[:1].lower()]


def _dtype(header: TextHeader) -> np.dtype[Any]:
    name = header.text("ElementType")
    if name not in _TYPES:
        raise InputError(
            f"{header.path} holds {name!r} voxels; expected one real number for each voxel, "
            "MET_SHORT or MET_FLOAT for example"
        )
    order = next((name for name in _ORDER_NAMES if name in header.fields), _ORDER_NAMES[0])
    big_endian = _flag(header, order, default=False)
    return np.dtype((">" if big_endian else "<") + _TYPES[name])


def _data(header: TextHeader, count: int) -> ByteSource:
    """Find the `count` bytes of the voxels."""
    compressed = _flag(header, "CompressedData", default=False)
    path, start = _data_file(header)
    (skip,) = header.integers("HeaderSize", 1, default="0")
    if skip == -1 and not compressed:  # the voxels are at the end of the file
        return ByteSource.at_end(path, count, after=start)
    if skip < 0:
        raise InputError(f"{header.path}: the header skips {skip} bytes; expected 0 or more")
    return ByteSource(path, skip or start, compressed)


def _data_file(header: TextHeader) -> tuple[Path, int]:
    """Return the file of the voxels, and the size of the header in it, in bytes."""
    if header.text(_LAST_FIELD).upper() == "LOCAL":
        return header.path, header.end
    return header.detached_file(_LAST_FIELD), 0


def _spacing(header: TextHeader, rank: int) -> Spacing:
    if header.get("DistanceUnits").lower() not in _MILLIMETRES:
        units = header.get("DistanceUnits")
        raise GeometryError(
            f"{header.path}: the header's distances are in {units!r}; expected mm. Convert the "
            "scan to millimetres"
        )
    x, y, z = _geometry(header, ("ElementSpacing",), rank)[:3]
    if min(x, y, z) <= 0:
        raise GeometryError(
            f"{header.path}: the header gives the voxel size {[x, y, z]}; expected three "
            "numbers above zero. Correct the header or convert the scan again"
        )
    return x, y, z


def _affine(header: TextHeader, rank: int, spacing_mm: Spacing) -> Affine:
    affine = np.eye(4)
    affine[:3, :3] = _directions(header, rank) * spacing_mm
    if _has_any(header, _ORIGIN_NAMES):
        affine[:3, 3] = _geometry(header, _ORIGIN_NAMES, rank)[:3]
    return flip_world(affine, "LPS")


def _directions(header: TextHeader, rank: int) -> npt.NDArray[np.float64]:
    """Return the unit vectors along the three axes in space, in columns."""
    if not _has_any(header, _MATRIX_NAMES):
        return np.eye(3)
    matrix = np.reshape(_geometry(header, _MATRIX_NAMES, rank * rank), (rank, rank)).T
    if matrix[3:, :3].any() or matrix[:3, 3:].any():
        raise GeometryError(
            f"{header.path}: an axis runs through space and a fourth dimension at once; expected "
            "three axes in space. Convert the scan again from its source"
        )
    return matrix[:3, :3]


def _has_any(header: TextHeader, names: tuple[str, ...]) -> bool:
    return any(name in header.fields for name in names)


def _geometry(header: TextHeader, names: tuple[str, ...], count: int) -> tuple[float, ...]:
    """Return the numbers of the field that has one of the `names`."""
    found = [name for name in names if name in header.fields]
    if not found:
        raise GeometryError(
            f"{header.path}: the header has no {names[0]}, so the size of a voxel is unknown. "
            "Convert the scan again from its source, or add the line if you know its size"
        )
    return header.numbers(found[0], count)
