"""The example's modules, importable as its scripts import each other, and a small made-up set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("torch")
EXAMPLE = Path(__file__).resolve().parents[3] / "examples/acdc"
PATIENTS, FRAMES = 6, (1, 9)


@pytest.fixture(scope="package", autouse=True)
def example() -> Iterator[Path]:
    """Let `import training` find the example, and forget its modules afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLE))
    yield EXAMPLE
    sys.path.remove(str(EXAMPLE))
    for name in set(sys.modules) - before:
        if (EXAMPLE / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="package")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write scans as ACDC has them: spacing in the header, beside an sform of 1 mm."""
    folder = tmp_path_factory.mktemp("acdc")
    random = np.random.default_rng(0)
    for part, numbers in (("training", range(1, PATIENTS + 1)), ("testing", (101,))):
        for number in numbers:
            for frame in FRAMES:
                name = f"patient{number:03d}"
                path = folder / part / name / f"{name}_frame{frame:02d}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_scan(path, random)
    return folder


def _write_scan(path: Path, random: np.random.Generator) -> None:
    labels = np.zeros((60, 70, 6), np.uint8)
    labels[20:32, 20:40, 1:5] = 1
    labels[32:36, 20:40, 1:5] = 2
    labels[36:46, 20:40, 1:5] = 3
    image = 100 + 60.0 * labels + random.normal(0, 10, labels.shape)
    for voxels, place in ((image, path), (labels, path.with_name(path.name[:-7] + "_gt.nii.gz"))):
        file = nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
        file.header.set_zooms((3.125, 3.125, 10.0))
        nibabel.save(file, place)
