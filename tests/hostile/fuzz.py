"""Fuzz the readers that are written in Python, guided by coverage: ``fuzz.py KIND [OPTION ...]``.

Needs atheris, and takes libFuzzer's options, such as ``-max_total_time=600``. It starts from the
hostile inputs of the same kind, and tells how many of them the reader takes. What is neither read
nor refused by an error of the project ends the run, and the input is left in the current folder.

atheris sees the coverage of Python alone, and none of an editable installation, which is refused:
install a wheel. Voxels are decoded in C++, PyTorch and the codecs of JPEG, which it does not see:
runtime/native/checks/check_fuzz.sh covers the first, and nothing here the others.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent.parent))

INSTRUMENTED = atheris.instrument_imports(include=["segmaformer"])
with INSTRUMENTED:
    import segmaformer
    from segmaformer.runtime.errors import InputError
    from segmaformer.runtime.scans.dicom.scan import read_series
    from segmaformer.runtime.scans.formats import read_scan

from hostile.run_kind import inputs_of

MOST_BYTES = 1 << 18
"""Larger inputs are slow; the smallest checkpoint that is read has 214 KiB."""
BUDGET_BYTES = 64 << 20


def _read_scan(path: Path) -> None:
    read_scan([path], budget_bytes=BUDGET_BYTES)


def _read_checkpoint(path: Path) -> None:
    from segmaformer.checkpoint import load_checkpoint

    load_checkpoint(path)


def _read_dicom(path: Path) -> None:
    read_series(path)


READERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "nifti": ("scan.nii", _read_scan),
    "gzip": ("scan.nii.gz", _read_scan),
    "nrrd": ("scan.nrrd", _read_scan),
    "metaimage": ("scan.mha", _read_scan),
    "dicom": ("scan.dcm", _read_dicom),
    "checkpoint": ("best.pth", _read_checkpoint),
    "safetensors": ("best.safetensors", _read_checkpoint),
}
"""Name of the file, and its reader."""


def _dicom_files(folder: Path) -> Iterator[Path]:
    import numpy as np
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        RLELossless,
    )
    from support.scans.dicom_files import Series, save

    voxels = np.arange(60).reshape(4, 5, 3).astype("u2")
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ):
        yield save(Series(voxels).multi_frame(), folder / syntax.name, syntax)


def _seeds(kind: str, folder: Path) -> Iterator[bytes]:
    if kind == "dicom":
        paths = list(_dicom_files(folder))
    else:
        paths = []
        for number, each in enumerate(inputs_of(kind)):
            place = folder / str(number)
            place.mkdir()
            paths.append(each.write(place))
    for path in paths:
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_BYTES:
            yield path.read_bytes()


def main() -> None:
    if ROOT in Path(segmaformer.__path__[0]).parents:
        sys.exit("this installation is editable, so atheris would see nothing: install a wheel")
    kind, *options = sys.argv[1:]
    name, read = READERS[kind]
    folder = Path(tempfile.mkdtemp(prefix="sgmf-fuzz-", dir="/dev/shm"))
    corpus = folder / "corpus"
    corpus.mkdir()
    (folder / "seeds").mkdir()
    path = folder / name

    def is_read(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            read(path)
        except InputError:
            return False
        return True

    seeds = [*_seeds(kind, folder / "seeds")]
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)
    with INSTRUMENTED:  # what readers import when they are called
        taken = sum(map(is_read, seeds))
    print(f"{len(seeds)} seeds, {taken} of which are read", flush=True)

    def read_one(content: bytes) -> None:
        is_read(content)

    atheris.Setup([sys.argv[0], f"-max_len={MOST_BYTES}", *options, str(corpus)], read_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
