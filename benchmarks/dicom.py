"""Reading a CT series of 512 x 512 x 200: sgmf, highdicom, SimpleITK, dicom2nifti and dcm2niix.

    python benchmarks/dicom.py --out dicom.json

The series is written in each coding by pydicom; a second one is tilted by 15 degrees. Every reading
is a process of its own, after its imports: seconds, processor seconds with those of processes that
it started, its peak memory and that of the largest of them, the largest distance of an image from
its own ImagePositionPatient, and if every intensity is the one that was written. sgmf reads once
more on one processor. The two converters write a NIfTI, which is read. Those that are not installed
are left out. Last, 30 labels are written as a DICOM segmentation of each type.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.metadata
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from turns import in_process, machine, memory_mib

SHAPE = (512, 512, 200)
DISTINCT_IMAGES = 20
LABELS = 30
SYNTAXES = {
    "native": "1.2.840.10008.1.2.1",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}
TILT_STEP_MM = (0.0, 0.67, 2.5)
Reading = tuple[np.ndarray, np.ndarray]
"""Intensities, and the affine along left, posterior and superior of (column, row, image)."""


def write_series(folder: Path, syntax: str, step_mm: tuple[float, float, float]) -> None:
    """Write a body-like series with noise; its pixels repeat, since coding takes long."""
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    images = []
    for index in range(DISTINCT_IMAGES):
        images.append(_image(_pixels(index)))
        if syntax != ExplicitVRLittleEndian:
            images[-1].compress(UID(syntax), generate_instance_uid=False)
    study, series, frame = (generate_uid() for _ in range(3))
    for index in range(SHAPE[2]):
        dataset = images[index % DISTINCT_IMAGES]
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = frame, generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [
            *(np.array((-180.0, -170.0, 40.0)) + index * np.array(step_mm))
        ]
        dataset.save_as(folder / f"{index:04}.dcm", enforce_file_format=True)


@functools.cache
def _pixels(seed: int) -> np.ndarray:
    """Return stored numbers (row, column) of an image, uint16."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(*[np.linspace(-1, 1, 512)] * 2)
    inside = (x / 0.9) ** 2 + (y / 0.6) ** 2 < 1
    body = 1050 + 60 * np.sin(9 * x + seed / 20) * np.cos(7 * y)
    noise = random.normal(0, 12, x.shape)
    return np.where(inside, body + noise, 24 + noise / 2).clip(0, 4095).astype("<u2")


def _image(pixels: np.ndarray) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientID = dataset.PatientName = dataset.PatientBirthDate = ""
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 3
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def read_sgmf(folder: Path) -> Callable[[], Reading]:
    import pydicom.datadict  # noqa: F401  (loaded before the time counts)

    from segmaformer.runtime.scans.dicom.scan import read_series
    from segmaformer.runtime.scans.volume import flip_world

    def read() -> Reading:
        volume = read_series(folder)
        return volume.voxels[0], flip_world(volume.affine, "LPS")

    return read


def read_on_one_processor(folder: Path) -> Callable[[], Reading]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return read_sgmf(folder)


def read_highdicom(folder: Path) -> Callable[[], Reading]:
    import highdicom
    import pydicom

    def read() -> Reading:
        images = [pydicom.dcmread(path) for path in folder.iterdir()]
        volume = highdicom.get_volume_from_series(images, apply_presentation_lut=False)
        affine = volume.affine.copy()
        return volume.array.transpose(2, 1, 0).astype(np.float32), affine[:, [2, 1, 0, 3]]

    return read


def read_simpleitk(folder: Path) -> Callable[[], Reading]:
    import SimpleITK

    def read() -> Reading:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        return SimpleITK.GetArrayFromImage(image).astype(np.float32).T, affine

    return read


def read_dicom2nifti(folder: Path) -> Callable[[], Reading]:
    from dicom2nifti.convert_dicom import dicom_series_to_nifti

    def read() -> Reading:
        with tempfile.TemporaryDirectory() as there:
            dicom_series_to_nifti(folder, Path(there, "scan.nii"), reorient_nifti=False)
            return _read_nifti(Path(there))

    return read


def read_dcm2niix(folder: Path) -> Callable[[], Reading]:
    import dcm2niix

    def read() -> Reading:
        with tempfile.TemporaryDirectory() as there:
            command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "scan", "-o", there, str(folder)]
            subprocess.run(command, check=True, capture_output=True)
            return _read_nifti(Path(there))

    return read


def _read_nifti(folder: Path) -> Reading:
    """Read the one file in a folder, its axes turned to left, posterior and superior."""
    import nibabel

    (path,) = [each for each in folder.glob("*.nii") if "_Tilt" not in each.name]
    image = nibabel.load(path)
    voxels = image.get_fdata(dtype=np.float32)
    affine = np.diag((-1.0, -1.0, 1.0, 1.0)) @ image.affine
    for axis in range(3):
        if affine[axis, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
            voxels = np.flip(voxels, axis)
    return voxels, affine


READERS = {
    "sgmf": read_sgmf,
    "sgmf, one processor": read_on_one_processor,
    "highdicom": read_highdicom,
    "SimpleITK": read_simpleitk,
    "dicom2nifti": read_dicom2nifti,
    "dcm2niix": read_dcm2niix,
}


def installed_readers() -> list[str]:
    """Name the readers that are installed."""
    optional = ("dicom2nifti", "dcm2niix")
    return [name for name in READERS if name not in optional or importlib.util.find_spec(name)]


def measure(reader: str, folder: Path) -> dict[str, Any]:
    """Read a series once; runs in a process of its own."""
    import pydicom

    read = READERS[reader](folder)
    try:
        start, processor_start = time.perf_counter(), _processor_seconds()
        voxels, affine = read()
        seconds = time.perf_counter() - start
        processor_seconds = _processor_seconds() - processor_start
    except Exception as error:  # a refusal is a result
        return {"refused": f"{type(error).__name__}: {error}"[:200]}
    child_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_mib = memory_mib("VmHWM")
    tags = ["ImagePositionPatient"]
    found = [pydicom.dcmread(path, specific_tags=tags) for path in sorted(folder.iterdir())]
    positions = np.array([dataset.ImagePositionPatient for dataset in found], float)
    ours = np.array([(affine @ (0, 0, index, 1))[:3] for index in range(len(positions))])
    apart = [np.linalg.norm(ours[::order] - positions, axis=1).max() for order in (1, -1)]
    ordered = voxels if apart[0] <= apart[1] else voxels[:, :, ::-1]
    return {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "peak_mib": peak_mib,
        "largest_child_mib": child_kib / 1024,
        "position_error_mm": float(min(apart)),
        "exact": _checksum(lambda index: ordered[:, :, index].T)
        == _checksum(lambda index: _pixels(index % DISTINCT_IMAGES) - 1024.0),
    }


def _processor_seconds() -> float:
    """Return user and system time of this process and of ended ones that it started."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _checksum(plane: Callable[[int], np.ndarray]) -> int:
    found = 0
    for index in range(SHAPE[2]):
        found = zlib.crc32(np.ascontiguousarray(plane(index), np.float32).data, found)
    return found


def measure_segmentation(folder: Path, kind: Literal["binary", "labelmap"]) -> dict[str, Any]:
    """Write 30 labels, a block each, on a series; runs in a process of its own."""
    import highdicom  # noqa: F401  (loaded before the time counts)

    from segmaformer.runtime.results.dicom.segmentation_object import write_segmentation_object
    from segmaformer.runtime.results.segmentation import Segmentation
    from segmaformer.runtime.scans.dicom.scan import read_series

    labels = np.zeros(SHAPE, np.uint8, order="F")  # as the predictor gives them
    for label in range(1, LABELS + 1):
        column, row = 60 * ((label - 1) % 6) + 80, 60 * ((label - 1) // 6) + 110
        labels[column : column + 50, row : row + 50, :] = label
    segmentation = Segmentation(
        labels, read_series(folder), _manifest(), "none", {}, package_sha256="a" * 64
    )
    path = folder.parent / f"{kind}.dcm"
    start = time.perf_counter()
    written = write_segmentation_object(path, segmentation, kind)
    return {
        "seconds": time.perf_counter() - start,
        "frames": int(written.NumberOfFrames),
        "peak_mib": memory_mib("VmHWM"),
        "file_mib": path.stat().st_size / 2**20,
    }


def _manifest() -> Any:
    from segmaformer.runtime.package.manifest import Manifest, Network
    from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

    return Manifest(
        name="sample",
        network=Network("segmaformer", {}, 0, "none", ""),
        preprocessing=Preprocessing(("CT",), (Normalization("zscore"),)),
        tiling=Tiling((64, 64, 64)),
        output=Output(
            (Label(0, "background"), *[Label(n, f"organ {n}") for n in range(1, LABELS + 1)])
        ),
        variants={},
        verification_tiles="",
        software={},
        created="",
        files={},
    )


def compare(folder: Path, rounds: int) -> dict[str, Any]:
    """Let all readers take turns on one series."""
    runs: dict[str, list[dict[str, Any]]] = {reader: [] for reader in installed_readers()}
    for _ in range(rounds):
        for reader, found in runs.items():
            found.append(in_process(measure, reader, folder))
    return {reader: _summary(found) for reader, found in runs.items()}


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    if "refused" in found[0]:
        return found[0]
    timed = ("seconds", "processor_seconds")
    return found[0] | {key: statistics.median(run[key] for run in found) for key in timed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        straight = (0.0, 0.0, 2.5)
        cases = {name: (syntax, straight) for name, syntax in SYNTAXES.items()}
        cases["native, tilted"] = (SYNTAXES["native"], TILT_STEP_MM)
        for name, (syntax, step_mm) in cases.items():
            write_series(Path(folder, name), syntax, step_mm)
            results[name] = compare(Path(folder, name), arguments.rounds)
            _tell(name, results, arguments.out)
        results["segmentations"] = {
            kind: in_process(measure_segmentation, Path(folder, "native"), kind)
            for kind in ("binary", "labelmap")
        }
        _tell("segmentations", results, arguments.out)


def _tell(name: str, results: dict[str, Any], out: Path | None) -> None:
    for candidate, row in results[name].items():
        print(name, candidate, row, flush=True)
    if out:
        document = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": _versions(),
            "results": results,
        }
        out.write_text(json.dumps(document, indent=2) + "\n")


def _versions() -> dict[str, str]:
    packages = ("pydicom", *[name for name in installed_readers() if "sgmf" not in name])
    return {name: importlib.metadata.version(name) for name in packages}


if __name__ == "__main__":
    main()
