"""Label maps that are none, or not those of their scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from hostile.hostile_input import REFUSED, TAKEN, HostileInput
from hostile.inputs.nifti import file_of, nifti
from support.scans.scan_files import SHAPE, ramp

from segmaformer.calibration.prepared_scan import read_label_map
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Label, Output

SCAN = Volume(ramp("f4")[None], np.eye(4))
OUTPUT = Output((Label(0, "background"), Label(1, "organ"), Label(2, "vessel")))
LABELS = (ramp() % 3).astype(np.int16)


def inputs() -> Iterator[HostileInput]:
    moved, turned = np.eye(4), np.diag([-1.0, 1, 1, 1])
    moved[0, 3] = 1
    maps: dict[str, tuple[np.ndarray, np.ndarray, int]] = {
        "good": (LABELS, np.eye(4), TAKEN),
        "float that holds whole numbers": (LABELS.astype(np.float32), np.eye(4), TAKEN),
        "all background": (LABELS * 0, np.eye(4), TAKEN),
        "some labels of others": (LABELS + 1, np.eye(4), TAKEN),
        "none of the package's labels": (LABELS * 0 + 7, np.eye(4), REFUSED),
        "negative": (-LABELS, np.eye(4), REFUSED),
        "halves": (LABELS / 2, np.eye(4), REFUSED),
        "NaN": (np.where(LABELS > 1, np.nan, LABELS), np.eye(4), REFUSED),
        "infinity": (np.where(LABELS > 1, np.inf, LABELS), np.eye(4), REFUSED),
        "beyond integers": (LABELS * 1e30, np.eye(4), REFUSED),
        "moved by a voxel": (LABELS, moved, REFUSED),
        "mirrored": (LABELS, turned, REFUSED),
        "other extents": (LABELS[:-1], np.eye(4), REFUSED),
        "axes exchanged": (LABELS.transpose(1, 0, 2), np.eye(4), REFUSED),
        "two channels": (np.stack([LABELS, LABELS], -1), np.eye(4), REFUSED),
    }
    for name, (voxels, affine, verdict) in maps.items():
        content = nibabel.Nifti1Image(voxels, affine).to_bytes()
        yield HostileInput(name, file_of(content), _read, verdict)
    yield HostileInput("cut off", file_of(nifti()[:-1]), _read, REFUSED)
    yield HostileInput("no scan", file_of(b"labels"), _read, REFUSED)
    huge = nifti({"dim": [3, 32767, 32767, 400, 1, 1, 1, 1]})

    def sparse(folder: Path) -> Path:
        path = file_of(huge)(folder)
        with path.open("r+b") as stream:
            stream.truncate(352 + 2 * 32767 * 32767 * 400)
        return path

    yield HostileInput("a sparse terabyte", sparse, _read, REFUSED)
    assert LABELS.shape == SHAPE


def _read(path: Path) -> None:
    read_label_map(path, SCAN, OUTPUT)
