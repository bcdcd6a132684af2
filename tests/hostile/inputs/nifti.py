"""NIfTI files whose headers or voxels are not what they seem."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from hostile.hostile_input import REFUSED, TAKEN, USAGE, HostileInput, read_as_scan
from support.scans.scan_files import SHAPE, ramp

NAN, INF = float("nan"), float("inf")

# Field of the header, value and verdict; voxels are those of a 4 x 5 x 6 ramp of int16.
FIELDS: list[tuple[str, Any, int]] = [
    *[("dim", [rank, 4, 5, 6, 1, 1, 1, 1], REFUSED) for rank in (-1, 0, 1, 2, 8, 127, 32767)],
    *[("dim", [rank, 4, 5, 6, 1, 1, 1, 1], TAKEN) for rank in (3, 4, 5, 6, 7)],
    ("dim", [3, 4, 5, 6, 9, 9, 9, 9], TAKEN),
    *[
        (
            "dim",
            [3, *(length if at == axis else n for at, n in enumerate(SHAPE)), 1, 1, 1, 1],
            REFUSED,
        )
        for axis in range(3)
        for length in (0, -1, -32768, 32767)
    ],
    ("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1], REFUSED),
    ("dim", [4, 4, 5, 6, 0, 1, 1, 1], REFUSED),
    ("dim", [4, 4, 5, 6, 2, 1, 1, 1], REFUSED),
    ("dim", [7, 4, 5, 6, 32767, 32767, 32767, 32767], REFUSED),
    *[("datatype", code, REFUSED) for code in (-1, 0, 1, 3, 5, 32, 128, 1792, 2048, 2304, 9999)],
    *[("datatype", code, REFUSED) for code in (64, 1024, 1536)],  # longer than what is there
    ("bitpix", 0, TAKEN),
    ("bitpix", 32767, TAKEN),
    *[("vox_offset", offset, REFUSED) for offset in (-1, 0, 1, 351, NAN, INF, -INF, 1e9, 3e38)],
    *[("pixdim", [1, step, 1, 1, 1, 1, 1, 1], REFUSED) for step in (0, NAN, INF, -INF)],
    ("pixdim", [NAN, 1, 1, 1, 1, 1, 1, 1], TAKEN),
    ("pixdim", [0, 1, 1, 1, 1, 1, 1, 1], TAKEN),
    ("pixdim", [1, -1, 1, 1, 1, 1, 1, 1], TAKEN),
    *[("srow_x", row, REFUSED) for row in ([NAN, 0, 0, 0], [INF, 0, 0, 0], [0, 0, 0, 0])],
    *[("srow_x", row, REFUSED) for row in ([1, 0, 0, NAN], [1, 0, 0, INF], [0, 1, 0, 0])],
    ("srow_y", [0, 0, 0, 0], REFUSED),
    ("srow_z", [1, 1, 0, 0], REFUSED),
    ("srow_z", [0, 0, -1, 0], TAKEN),
    ("srow_z", [0, 0, 1, 1e30], TAKEN),
    *[("scl_slope", slope, TAKEN) for slope in (0, 1, -2, NAN, 1e-3)],
    *[("scl_slope", slope, TAKEN) for slope in (INF, -INF)],  # as if there were none
    ("scl_inter", 5, TAKEN),
    *[("xyzt_units", units, TAKEN) for units in (0, 1, 2, 3, 4, 7, 8, 255)],
    *[("intent_code", code, TAKEN) for code in (0, 2, 1001, 1002, 1007, -1, 32767)],
    ("dim_info", 255, TAKEN),
    ("cal_max", NAN, TAKEN),
    ("descrip", b"\x1b[2J\x07\n" * 10, TAKEN),
    ("aux_file", b"../../../../etc/passwd", TAKEN),
    ("sform_code", -1, TAKEN),
    ("sform_code", 32767, TAKEN),
    ("qform_code", 32767, TAKEN),
]


def nifti(changes: dict[str, Any] | None = None, order: str = "<") -> bytes:
    """Write a file of a ramp and change its header afterwards."""
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1\0", 352
    for name, value in (changes or {}).items():
        header[name] = value
    return header.binaryblock + bytes(4) + ramp(f"{order}i2").tobytes("F")


def file_of(content: bytes, name: str = "scan.nii") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def inputs() -> Iterator[HostileInput]:
    for field, value, verdict in FIELDS:
        name = f"{field} {value}"
        yield HostileInput(name, file_of(nifti({field: value})), read_as_scan, verdict)
    yield from _scalings()
    yield from _contents()
    yield from _places()


def _scalings() -> Iterator[HostileInput]:
    for slope, intercept in ((1, NAN), (1, INF), (3e38, 0), (2, 3e38), (-3e38, -3e38)):
        content = nifti({"scl_slope": slope, "scl_inter": intercept})
        verdict = TAKEN if slope == 2 else REFUSED
        yield HostileInput(
            f"slope {slope}, intercept {intercept}", file_of(content), read_as_scan, verdict
        )


def _contents() -> Iterator[HostileInput]:
    plain, data = nifti(), 2 * int(np.prod(SHAPE))
    big = nifti(order=">")
    huge = nifti({"dim": [3, 1000, 1000, 1000, 1, 1, 1, 1]})
    second = nibabel.Nifti2Image(ramp(), np.eye(4)).to_bytes()
    kinds: dict[str, tuple[bytes, int]] = {
        "plain": (plain, TAKEN),
        "big-endian": (big, TAKEN),
        "NIfTI-2": (second, TAKEN),
        "bytes after the voxels": (plain + b"more", TAKEN),
        "NIfTI-2 of 2^62 voxels": (
            second[:16] + struct.pack("<8q", 3, 2**62, 1, 1, 1, 1, 1, 1) + second[80:],
            REFUSED,
        ),
        "NIfTI-2 whose product overflows": (
            second[:16] + struct.pack("<8q", 3, 2**32, 2**32, 1, 1, 1, 1, 1) + second[80:],
            REFUSED,
        ),
        "nothing": (b"", REFUSED),
        "one byte": (b"\\", REFUSED),
        "half a header": (plain[:174], REFUSED),
        "a header alone": (plain[:348], REFUSED),
        "voxels cut off by one byte": (plain[:-1], REFUSED),
        "half of the voxels": (plain[: -data // 2], REFUSED),
        "no magic": (plain[:344] + bytes(4) + plain[348:], REFUSED),
        "magic of a pair": (plain[:344] + b"ni1\0" + plain[348:], REFUSED),
        "magic of a third version": (plain[:344] + b"n+3\0" + plain[348:], REFUSED),
        "another size of the header": (struct.pack("<i", 349) + plain[4:], REFUSED),
        "byte order of the size alone": (plain[:4][::-1] + plain[4:], REFUSED),
        "voxels that are all zero": (plain[:352] + bytes(data), REFUSED),
        "a gigabyte in a kilobyte": (huge, REFUSED),
        "a gigabyte of zeros, packed": (
            gzip.compress(nifti({"dim": [3, 512, 512, 100, 1, 1, 1, 1]})[:352], mtime=0)
            + gzip.compress(bytes(1000), mtime=0),
            REFUSED,
        ),
        "an extension longer than the file": (
            plain[:348] + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 4) + plain[352:],
            TAKEN,
        ),
        "an extension of negative length": (
            plain[:348] + b"\1\0\0\0" + struct.pack("<ii", -16, 4) + plain[352:],
            TAKEN,
        ),
        "noise": (np.random.default_rng(0).bytes(1000), REFUSED),
        "text": (b"this is no scan\n" * 40, REFUSED),
    }
    for name, (content, verdict) in kinds.items():
        yield HostileInput(name, file_of(content), read_as_scan, verdict)
    for kind, voxels in {"NaN": NAN, "infinity": INF, "minus infinity": -INF}.items():
        values = ramp("<f4")
        values[1, 2, 3] = voxels
        content = nibabel.Nifti1Image(values, np.eye(4)).to_bytes()
        yield HostileInput(f"one voxel of {kind}", file_of(content), read_as_scan, REFUSED)
    wide = np.full(SHAPE, 1e300)
    content = nibabel.Nifti1Image(wide, np.eye(4)).to_bytes()
    yield HostileInput("float64 beyond float32", file_of(content), read_as_scan, REFUSED)


def _places() -> Iterator[HostileInput]:
    yield HostileInput("no file", lambda folder: folder / "scan.nii", read_as_scan, USAGE)

    def a_folder(folder: Path) -> Path:
        (folder / "scan.nii.gz").mkdir()
        return folder / "scan.nii.gz"

    yield HostileInput("a folder", a_folder, read_as_scan, REFUSED)

    def a_terabyte(folder: Path) -> Path:
        content = nifti({"dim": [3, 32767, 32767, 512, 1, 1, 1, 1]})
        path = file_of(content)(folder)
        with path.open("r+b") as stream:
            stream.truncate(352 + 2 * 32767 * 32767 * 512)
        return path

    yield HostileInput("a sparse terabyte", a_terabyte, read_as_scan, REFUSED)

    def far_voxels(folder: Path) -> Path:
        path = file_of(nifti({"vox_offset": 2.0**39}))(folder)
        with path.open("r+b") as stream:
            stream.truncate(2**39)
            stream.seek(2**39)
            stream.write(ramp("<i2").tobytes("F"))
        return path

    yield HostileInput("voxels behind half a terabyte of nothing", far_voxels, read_as_scan, TAKEN)
