"""MetaImage files whose headers or voxels are not what they seem."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from hostile.hostile_input import REFUSED, TAKEN, HostileInput, read_as_scan
from hostile.inputs.nifti import file_of
from support.scans.text_scans import FOREIGN_FILES, VOXELS, metaimage_bytes

# Field, value (None leaves it out) and verdict.
CHANGES: list[tuple[str, str | None, int]] = [
    *[("ObjectType", value, REFUSED) for value in ("Tube", "")],
    *[("NDims", value, REFUSED) for value in (None, "", "0", "-3", "2", "5", "3.5", "x")],
    *[("BinaryData", value, REFUSED) for value in ("False", "maybe")],
    ("BinaryDataByteOrderMSB", "maybe", REFUSED),
    *[("CompressedData", value, REFUSED) for value in ("True", "maybe")],
    *[
        ("TransformMatrix", value, REFUSED)
        for value in (
            "1 0 0 0 1 0 0 0",
            "1 0 0 0 1 0 0 0 1 1",
            "1 0 0 0 1 0 0 0 0",
            "1 0 0 1 0 0 0 0 1",
            "1 0 0 0 1 0 0 0 nan",
            "1 0 0 0 1 0 0 0 inf",
            "a b c d e f g h i",
        )
    ],
    *[("Offset", value, REFUSED) for value in ("1 2", "1 2 nan", "1 2 inf", "a b c")],
    *[("ElementSpacing", value, REFUSED) for value in ("1 2", "1 2 0", "1 2 nan", "1 2 inf")],
    *[("DimSize", value, REFUSED) for value in (None, "", "4 5", "4 5 0", "4 5 -6", "4 5 7")],
    *[("DimSize", value, REFUSED) for value in ("4 5 6.5", "99999999999 99999999999 99999999999")],
    ("DimSize", f"4 5 {'9' * 5000}", REFUSED),
    *[("ElementType", value, REFUSED) for value in (None, "", "MET_NONE", "MET_OTHER", "short")],
    *[("ElementType", value, REFUSED) for value in ("MET_FLOAT", "MET_DOUBLE", "MET_LONG_LONG")],
    *[("ElementNumberOfChannels", value, REFUSED) for value in ("0", "-1", "x", "99999999999")],
    *[("HeaderSize", value, REFUSED) for value in ("-2", "x", "99999999999")],
    *[("ElementDataFile", value, REFUSED) for value in (None, *FOREIGN_FILES)],
    ("Comment", "\x1b[2J\x07", TAKEN),
    ("Modality", "MET_MOD_NONSENSE", TAKEN),
]


def inputs() -> Iterator[HostileInput]:
    for field, value, verdict in CHANGES:
        content = metaimage_bytes(**{field: value})
        name = f"{field} = {value if value is None else value[:40]}"
        yield HostileInput(name, file_of(content, "scan.mha"), read_as_scan, verdict)
    packed, plain = zlib.compress(VOXELS), metaimage_bytes()
    contents: dict[str, tuple[bytes, int]] = {
        "plain": (plain, TAKEN),
        "compressed": (metaimage_bytes(packed, CompressedData="True"), TAKEN),
        "compressed and cut off": (metaimage_bytes(packed[:-5], CompressedData="True"), REFUSED),
        "compressed, of less": (
            metaimage_bytes(zlib.compress(VOXELS[1:]), CompressedData="True"),
            REFUSED,
        ),
        "compressed, of more": (
            metaimage_bytes(zlib.compress(VOXELS + b"x"), CompressedData="True"),
            TAKEN,
        ),
        "a bomb": (
            metaimage_bytes(zlib.compress(bytes(30_000_000)), CompressedData="True"),
            REFUSED,
        ),
        "cut off": (plain[:-1], REFUSED),
        "no voxels": (metaimage_bytes(b""), REFUSED),
        "a field twice, alike": (plain.replace(b"\nDimSize", b"\nNDims = 3\nDimSize"), TAKEN),
        "a field twice": (plain.replace(b"\nNDims", b"\nDimSize = 6 5 4\nNDims"), REFUSED),
        "a line without an equals sign": (plain.replace(b"\nNDims", b"\nnonsense\nNDims"), TAKEN),
        "a header that does not end": (b"ObjectType = Image\n" + b"x" * 3_000_000, REFUSED),
    }
    for name, (content, verdict) in contents.items():
        yield HostileInput(name, file_of(content, "scan.mha"), read_as_scan, verdict)
    yield HostileInput("voxels outside its folder", _outside, read_as_scan, REFUSED)


def _outside(folder: Path) -> Path:
    """Place voxels where the header must not reach them."""
    (folder / "scan.raw").write_bytes(VOXELS)
    (folder / "inner").mkdir()
    return file_of(metaimage_bytes(b"", ElementDataFile="../scan.raw"), "scan.mhd")(
        folder / "inner"
    )
