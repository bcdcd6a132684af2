"""NRRD files whose headers or voxels are not what they seem."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from hostile.hostile_input import REFUSED, TAKEN, HostileInput, read_as_scan
from hostile.inputs.nifti import file_of
from support.scans.text_scans import FOREIGN_FILES, VOXELS, nrrd_bytes

# Field, value (None leaves it out) and verdict.
CHANGES: list[tuple[str, str | None, int]] = [
    *[("type", value, REFUSED) for value in (None, "", "block", "complex", "float", "short short")],
    *[("dimension", value, REFUSED) for value in (None, "", "0", "-3", "2", "4", "17", "3.0", "x")],
    ("dimension", "9" * 5000, REFUSED),
    *[("sizes", value, REFUSED) for value in (None, "", "4 5", "4 5 6 1", "4 5 0", "4 5 -6")],
    *[("sizes", value, REFUSED) for value in ("4 5 7", "4 5 6e1", "4 5 nan", "1e3 1e3 1e3")],
    ("sizes", "99999999999 99999999999 99999999999", REFUSED),
    ("sizes", f"4 5 {'9' * 5000}", REFUSED),
    ("sizes", "4 5 3", TAKEN),  # bytes after the voxels
    *[("space", value, REFUSED) for value in ("scanner-xyz", "3D-right-handed", "LPX")],
    *[
        ("space directions", value, REFUSED)
        for value in (
            "(1,0,0) (0,2,0)",
            "(1,0,0) (0,2,0) (0,0,0)",
            "(1,0,0) (0,2,0) (0,2,0)",
            "(1,0,0) (0,2,0) (0,0,nan)",
            "(1,0,0) (0,2,0) (0,0,inf)",
            "(1,0,0) (0,2,0) none",
            "(1,0,0) (0,2,0) (0,0)",
            "(1,0,0) (0,2,0) (0,0,3",
            "1 0 0 0 2 0 0 0 3",
        )
    ],
    *[("space origin", value, REFUSED) for value in ("(1,2)", "(1,2,nan)", "(1,2,inf)", "1 2 3")],
    ("space origin", None, TAKEN),
    *[("endian", value, REFUSED) for value in (None, "", "middle", "little big")],
    *[
        ("encoding", value, REFUSED)
        for value in (None, "", "bzip2", "ascii", "hex", "gzip", "zstd")
    ],
    *[("byte skip", value, REFUSED) for value in ("-2", "x", "1", "99999999999", "1.5")],
    *[("line skip", value, REFUSED) for value in ("-1", "x", "99999999999")],
    # Each axis has a direction in space, so each is one.
    *[("kinds", value, TAKEN) for value in ("domain domain", "domain domain time")],
    *[("data file", value, REFUSED) for value in FOREIGN_FILES],
    ("content", "\x1b[2J\x07", TAKEN),
    ("old min", "nan", TAKEN),
]


def inputs() -> Iterator[HostileInput]:
    for field, value, verdict in CHANGES:
        content = nrrd_bytes(**{field: value})
        name = f"{field}: {value if value is None else value[:40]}"
        yield HostileInput(name, file_of(content, "scan.nrrd"), read_as_scan, verdict)
    packed = gzip.compress(VOXELS, mtime=0)
    plain = nrrd_bytes()
    contents: dict[str, tuple[bytes, int]] = {
        "plain": (plain, TAKEN),
        "gzip": (nrrd_bytes(packed, encoding="gzip"), TAKEN),
        "zlib instead of gzip": (nrrd_bytes(zlib.compress(VOXELS), encoding="gzip"), TAKEN),
        "gzip cut off": (nrrd_bytes(packed[:-5], encoding="gzip"), REFUSED),
        "gzip with another checksum": (
            nrrd_bytes(packed[:-8] + bytes(8), encoding="gzip"),
            REFUSED,
        ),
        "gzip of less": (nrrd_bytes(gzip.compress(VOXELS[:-1], mtime=0), encoding="gzip"), REFUSED),
        "gzip of more": (nrrd_bytes(gzip.compress(VOXELS + b"x", mtime=0), encoding="gzip"), TAKEN),
        "raw declared, gzip given": (nrrd_bytes(packed), REFUSED),
        "a bomb": (nrrd_bytes(gzip.compress(bytes(30_000_000), mtime=0), encoding="gzip"), REFUSED),
        "cut off": (plain[:-1], REFUSED),
        "no voxels": (nrrd_bytes(b""), REFUSED),
        "no empty line": (plain[: plain.index(b"\n\n")], REFUSED),
        "the magic alone": (b"NRRD0004\n", REFUSED),
        "version 99": (nrrd_bytes(magic="NRRD0099"), REFUSED),
        "a field twice": (plain.replace(b"\ntype", b"\nsizes: 6 5 4\ntype"), REFUSED),
        "a line without a colon": (plain.replace(b"\ntype", b"\nnonsense\ntype"), REFUSED),
        "a comment of half a megabyte": (
            plain.replace(b"\ntype", b"\n#" + b"x" * 2**19 + b"\ntype"),
            TAKEN,
        ),
        "a comment of a megabyte": (
            plain.replace(b"\ntype", b"\n#" + b"x" * 2**20 + b"\ntype"),
            REFUSED,
        ),
        "bytes that are no text": (plain.replace(b"\ntype", b"\n# \xff\xfe\ntype"), TAKEN),
        "a header that does not end": (b"NRRD0004\n" + b"#" * 3_000_000, REFUSED),
    }
    for name, (content, verdict) in contents.items():
        yield HostileInput(name, file_of(content, "scan.nrrd"), read_as_scan, verdict)
    yield HostileInput("voxels outside its folder", _outside, read_as_scan, REFUSED)


def _outside(folder: Path) -> Path:
    """Place voxels where the header must not reach them."""
    (folder / "scan.raw").write_bytes(VOXELS)
    (folder / "inner").mkdir()
    return file_of(nrrd_bytes(b"", **{"data file": "../scan.raw"}), "scan.nhdr")(folder / "inner")
