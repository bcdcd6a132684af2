"""NRRD and MetaImage files put together by hand, one header field after the other."""

from __future__ import annotations

from support.scans.scan_files import ramp

VOXELS = ramp().tobytes("F")
NRRD_FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "4 5 6",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}
METAIMAGE_FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "0 1 0 -1 0 0 0 0 1",
    "Offset": "10 20 30",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "PRS",
    "ElementSpacing": "1 2 3",
    "DimSize": "4 5 6",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
FOREIGN_FILES = (
    "",
    "LIST",
    "missing.raw",
    "../scan.raw",
    "/etc/passwd",
    ".",
    "scan%03d.raw 1 6 1",
    "a\x1b[2Jb",
)
"""Files that a header may name for its voxels; none is one to read."""


def nrrd_bytes(data: bytes = VOXELS, magic: str = "NRRD0004", **changes: str | None) -> bytes:
    """Return NRRD_FIELDS, some changed or, if None, left out; ``_`` stands for a space."""
    fields = NRRD_FIELDS | {name.replace("_", " "): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join([magic, *lines, "", ""]).encode() + data


def metaimage_bytes(data: bytes = VOXELS, **changes: str | None) -> bytes:
    """Return METAIMAGE_FIELDS, some changed or, if None, left out; the data file stays the last."""
    fields = METAIMAGE_FIELDS | changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "\n".join([*lines, ""]).encode() + data
