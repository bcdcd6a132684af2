"""Reading a CT series of 512 x 512 x 200: sgmf, highdicom and SimpleITK.

    python benchmarks/dicom.py --out dicom.json

The series is written in each coding by pydicom; a second one is tilted by 15 degrees. Every reading
is a process of its own, after its imports: seconds, its peak memory and that of the largest process
it started, and the largest distance of an image from its own ImagePositionPatient.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns import in_process, machine

SHAPE = (512, 512, 200)
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
    """Write a body-like series with noise."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.linspace(-1, 1, 512)] * 2)
    study, series, frame = (generate_uid() for _ in range(3))
    for index in range(SHAPE[2]):
        inside = (x / 0.9) ** 2 + (y / 0.6) ** 2 < 1
        body = 1050 + 60 * np.sin(9 * x + index / 20) * np.cos(7 * y)
        noise = random.normal(0, 12, x.shape)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.Modality = frame, "CT"
        dataset.ImageType, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], index + 1
        dataset.PatientID = dataset.PatientName = dataset.PatientBirthDate = ""
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [
            *(np.array((-180.0, -170.0, 40.0)) + index * np.array(step_mm))
        ]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 3
        dataset.Rows, dataset.Columns = 512, 512
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        pixels = np.where(inside, body + noise, 24 + noise / 2).clip(0, 4095)
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        if syntax != ExplicitVRLittleEndian:
            dataset.compress(UID(syntax), generate_instance_uid=False)
        dataset.save_as(folder / f"{index:04}.dcm", enforce_file_format=True)


def read_sgmf(folder: Path) -> Callable[[], Reading]:
    import pydicom.datadict  # noqa: F401  (loaded before the time counts)

    from segmaformer.runtime.scans.dicom.scan import read_series
    from segmaformer.runtime.scans.volume import flip_world

    def read() -> Reading:
        volume = read_series(folder)
        return volume.voxels[0], flip_world(volume.affine, "LPS")

    return read


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


READERS = {"sgmf": read_sgmf, "highdicom": read_highdicom, "SimpleITK": read_simpleitk}


def measure(reader: str, folder: Path) -> dict[str, Any]:
    """Read a series once; runs in a process of its own."""
    import pydicom

    read = READERS[reader](folder)
    try:
        start = time.perf_counter()
        voxels, affine = read()
        seconds = time.perf_counter() - start
    except Exception as error:  # a refusal is a result
        return {"refused": f"{type(error).__name__}: {error}"[:200]}
    used = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    tags = ["ImagePositionPatient"]
    found = [pydicom.dcmread(path, specific_tags=tags) for path in sorted(folder.iterdir())]
    positions = np.array([dataset.ImagePositionPatient for dataset in found], float)
    ours = np.array([(affine @ (0, 0, index, 1))[:3] for index in range(len(positions))])
    apart = [np.linalg.norm(ours[::order] - positions, axis=1).max() for order in (1, -1)]
    return {
        "seconds": seconds,
        "peak_mib": used[0] / 1024,
        "largest_child_mib": used[1] / 1024,
        "position_error_mm": float(min(apart)),
        "mean": float(voxels.mean(dtype=np.float64)),
    }


def compare(folder: Path, rounds: int) -> dict[str, Any]:
    """Let all readers take turns on one series."""
    runs: dict[str, list[dict[str, Any]]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader, found in runs.items():
            found.append(in_process(measure, reader, folder))
    return {reader: _summary(found) for reader, found in runs.items()}


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    if "refused" in found[0]:
        return found[0]
    return {**found[0], "seconds": statistics.median(run["seconds"] for run in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: (syntax, (0.0, 0.0, 2.5)) for name, syntax in SYNTAXES.items()}
        cases["native, tilted"] = (SYNTAXES["native"], TILT_STEP_MM)
        for name, (syntax, step_mm) in cases.items():
            write_series(Path(folder, name), syntax, step_mm)
            results[name] = compare(Path(folder, name), arguments.rounds)
            for reader, row in results[name].items():
                print(name, reader, row, flush=True)
    document = {"machine": machine(), "results": results}
    if arguments.out:
        arguments.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
