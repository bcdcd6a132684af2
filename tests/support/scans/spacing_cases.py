"""Headers that state their spacing in many ways, for nnU-Net's readers and this runtime's.

What nnU-Net's readers took each for is recorded, see tests/data/README.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

RECORD = Path(__file__).parents[2] / "data" / "nnunet" / "spacing.json"
SHAPE = (5, 6, 7)
READERS = ("NibabelIO", "NibabelIOWithReorient", "SimpleITKIO", "SimpleITKIOWithReorient")
MILLIMETRE, METRE, MICROMETRE, WITH_SECONDS = 2, 1, 3, 10

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class NiftiCase:
    """Fields of a NIfTI header as they are in the file; without a code a transform is absent."""

    pixdim: tuple[float, float, float] = (1.0, 2.0, 3.0)
    sform: Matrix | None = None
    quaternion: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sform_code: int = 0
    qform_code: int = 0
    qfac: float = 1.0
    units: int = MILLIMETRE
    version: int = 1

    def write(self, path: Path) -> None:
        """Write the scan, with nothing repaired or filled in."""
        kind: Any = nibabel.Nifti1Header if self.version == 1 else nibabel.Nifti2Header
        header = kind()
        header.set_data_dtype(np.float32)
        header.set_data_shape(SHAPE)
        header["pixdim"][:4] = (self.qfac, *self.pixdim)
        header["xyzt_units"] = self.units
        header["sform_code"], header["qform_code"] = self.sform_code, self.qform_code
        for name, row in zip(("srow_x", "srow_y", "srow_z"), self.sform or (), strict=False):
            header[name] = row
        for name, part in zip(
            ("quatern_b", "quatern_c", "quatern_d"), self.quaternion, strict=True
        ):
            header[name] = part
        header["magic"] = header.single_magic
        header["vox_offset"] = header.single_vox_offset
        gap = bytes(header.single_vox_offset - header.sizeof_hdr)
        voxels = np.arange(1, np.prod(SHAPE) + 1, dtype=np.float32)
        path.write_bytes(header.binaryblock + gap + voxels.tobytes())


def columns(*steps: tuple[float, float, float]) -> Matrix:
    """Return the rows of an affine whose columns are the steps of the three axes."""
    return tuple((*row, 5.0) for row in zip(*steps, strict=True))


def diagonal(x: float, y: float, z: float) -> Matrix:
    return columns((x, 0, 0), (0, y, 0), (0, 0, z))


def turned(edges: tuple[float, float, float], degrees: float) -> Matrix:
    """Return an oblique affine, turned about two axes."""
    angle = np.radians(degrees)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    steps = about_z @ about_x @ np.diag(edges)
    return tuple((*map(float, row), 5.0) for row in steps)


_PLACED = NiftiCase(sform=diagonal(1, 2, 3), sform_code=1)
_TURN = (0.0, 0.0, float(np.sin(np.radians(20))))


def _forms(prefix: str, case: NiftiCase) -> dict[str, NiftiCase]:
    """Return a case under every unit."""
    units = {"mm": MILLIMETRE, "m": METRE, "um": MICROMETRE, "none": 0, "mm, s": WITH_SECONDS}
    return {
        f"{prefix}, {name}": dataclasses.replace(case, units=code) for name, code in units.items()
    }


NIFTI_CASES: dict[str, NiftiCase] = {
    "no transform": NiftiCase(),
    **_forms("sform", _PLACED),
    **_forms("stale sform", dataclasses.replace(_PLACED, sform=diagonal(1, 1, 1))),
    **_forms(
        "stale sform, LPS", dataclasses.replace(_PLACED, sform=diagonal(-2, -2, 2), sform_code=2)
    ),
    **_forms("qform", NiftiCase(qform_code=1, quaternion=_TURN)),
    "stale pixdim, one axis": dataclasses.replace(_PLACED, pixdim=(1.0, 2.0, 1.0)),
    "permuted": dataclasses.replace(_PLACED, sform=columns((0, 0, 1), (2, 0, 0), (0, -3, 0))),
    "permuted, stale": dataclasses.replace(
        _PLACED, sform=columns((0, 0, 0.5), (0.7, 0, 0), (0, -0.9, 0))
    ),
    "oblique": dataclasses.replace(
        _PLACED, pixdim=(0.7, 0.8, 3.3), sform=turned((0.7, 0.8, 3.3), 12)
    ),
    "oblique, LAS": dataclasses.replace(
        _PLACED, pixdim=(0.7, 0.8, 3.3), sform=turned((-0.7, 0.8, 3.3), 12)
    ),
    "oblique, stale": dataclasses.replace(
        _PLACED, pixdim=(0.7, 0.8, 3.3), sform=turned((-1.1, 1.3, 2.9), 12)
    ),
    "both alike": dataclasses.replace(_PLACED, qform_code=1),
    "both, stale sform": dataclasses.replace(_PLACED, qform_code=1, sform=diagonal(-2, 2, 2)),
    "qfac -1": NiftiCase(qform_code=1, qfac=-1.0),
    "qfac 0": NiftiCase(qform_code=1, qfac=0.0),
    "negative pixdim": dataclasses.replace(_PLACED, pixdim=(-1.0, 2.0, -3.0)),
    "negative pixdim, LAS": dataclasses.replace(
        _PLACED, pixdim=(-1.0, 2.0, 3.0), sform=diagonal(-1, 2, 3)
    ),
    "rounded": dataclasses.replace(_PLACED, pixdim=(0.7, 0.1, 0.3), sform=diagonal(0.7, 0.1, 0.3)),
    "rounded, LPS": dataclasses.replace(
        _PLACED, pixdim=(0.7, 0.1, 0.3), sform=diagonal(-0.7, -0.1, 0.3)
    ),
    "rounded, um": dataclasses.replace(
        _PLACED, pixdim=(700.0, 800.1, 900.1), sform=diagonal(-700.0, 800.1, 900.1), units=3
    ),
    "sheared": dataclasses.replace(_PLACED, sform=columns((1, 0, 0), (0.5, 2, 0), (0, 0, 3))),
    "NIfTI-2": dataclasses.replace(
        _PLACED, pixdim=(0.7, 0.1, 0.3), sform=diagonal(0.7, 0.1, 0.3), version=2
    ),
    "NIfTI-2, LPS": dataclasses.replace(
        _PLACED, pixdim=(0.7, 0.1, 0.3), sform=diagonal(-0.7, -0.1, 0.3), version=2
    ),
}


def _write_nrrd(directions: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        lines = (
            "NRRD0004", "type: float", "dimension: 3", "space: left-posterior-superior",
            f"sizes: {' '.join(map(str, SHAPE))}", f"space directions: {directions}",
            "endian: little", "encoding: raw", "space origin: (1,2,3)", "", "",
        )  # fmt: skip
        voxels = np.arange(1, np.prod(SHAPE) + 1, dtype="<f4")
        path.write_bytes("\n".join(lines).encode() + voxels.tobytes())

    return write


def _write_mha(spacing: str, matrix: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        lines = (
            "ObjectType = Image", "NDims = 3", "BinaryData = True",
            "BinaryDataByteOrderMSB = False", "CompressedData = False",
            f"TransformMatrix = {matrix}", "Offset = 1 2 3", f"ElementSpacing = {spacing}",
            f"DimSize = {' '.join(map(str, SHAPE))}", "ElementType = MET_FLOAT",
            "ElementDataFile = LOCAL", "",
        )  # fmt: skip
        voxels = np.arange(1, np.prod(SHAPE) + 1, dtype="<f4")
        path.write_bytes("\n".join(lines).encode() + voxels.tobytes())

    return write


OTHER_CASES: dict[str, Callable[[Path], None]] = {
    "straight.nrrd": _write_nrrd("(0.7,0,0) (0,0.1,0) (0,0,0.3)"),
    "oblique.nrrd": _write_nrrd("(0.6,0.3,0) (-0.4,0.8,0) (0,0,3.3)"),
    "permuted.nrrd": _write_nrrd("(0,0,0.7) (0.1,0,0) (0,-0.3,0)"),
    "straight.mha": _write_mha("0.7 0.1 0.3", "1 0 0 0 1 0 0 0 1"),
    "permuted.mha": _write_mha("0.7 0.1 0.3", "0 0 1 1 0 0 0 -1 0"),
}


def write_cases(folder: Path) -> dict[str, Path]:
    """Write every case; return its file by its name."""
    paths = {name: folder / f"{index}.nii" for index, name in enumerate(NIFTI_CASES)}
    for name, case in NIFTI_CASES.items():
        case.write(paths[name])
    for name, write in OTHER_CASES.items():
        paths[name] = folder / name
        write(paths[name])
    return paths


def recorded_spacings() -> dict[str, dict[str, list[float] | None]]:
    """Read the spacing along (z, y, x) of each case by each reader; None if it refused the file."""
    table: dict[str, dict[str, list[float] | None]] = json.loads(RECORD.read_text())
    return table
