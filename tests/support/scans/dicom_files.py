"""DICOM series as scanners write them, made of voxels by pydicom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

NORMAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)
"""Orientations: along the patient's axes, and along none."""

Change = Callable[[Dataset, int], None]


@dataclass
class Series:
    """A series to write, one file for each slice.

    Attributes
    ----------
    voxels
        Stored numbers (X, Y, Z).
    step_mm
        Step from slice to slice along left, posterior and superior; None is 2.5 along the normal.
    change
        Changes a slice's data set before it is written, given its index.
    """

    voxels: np.ndarray
    orientation: tuple[float, ...] = NORMAL
    spacing_mm: tuple[float, float] = (0.75, 0.5)
    first_mm: tuple[float, float, float] = (-20.0, 30.0, 100.0)
    step_mm: tuple[float, float, float] | None = None
    number: int = 3
    syntax: UID = ExplicitVRLittleEndian
    change: Change = lambda dataset, index: None
    uid: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)
    study: str = field(default_factory=generate_uid)

    @property
    def step(self) -> np.ndarray:
        if self.step_mm is not None:
            return np.array(self.step_mm)
        return 2.5 * np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def affine(self) -> np.ndarray:
        """Affine along right, anterior and superior."""
        rows, columns = self.spacing_mm
        axes = [
            np.multiply(self.orientation[:3], columns),
            np.multiply(self.orientation[3:], rows),
            self.step,
            self.first_mm,
        ]
        return np.diag([-1.0, -1, 1, 1]) @ np.vstack([np.stack(axes, axis=1), [0, 0, 0, 1]])

    def write(self, folder: Path, name: Callable[[int], str] = "IM{:04}".format) -> Path:
        """Write all slices into a folder; return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(self.voxels.shape[2]):
            save(self.slice(index), folder / name(index), self.syntax)
        return folder

    def slice(self, index: int) -> Dataset:
        """Make a slice's data set."""
        dataset = _image(self.voxels[:, :, index], self)
        dataset.SOPClassUID = CTImageStorage
        dataset.Modality = "CT"
        dataset.InstanceNumber = index + 1
        dataset.ImageOrientationPatient = [*self.orientation]
        dataset.ImagePositionPatient = [*(np.array(self.first_mm) + index * self.step)]
        dataset.PixelSpacing = [*self.spacing_mm]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        self.change(dataset, index)
        return dataset

    def multi_frame(self, *, shared: tuple[str, ...] = ()) -> Dataset:
        """Make one data set of all slices; functional groups named in `shared` are shared."""
        count = self.voxels.shape[2]
        dataset = _image(self.voxels, self)
        dataset.SOPClassUID = EnhancedMRImageStorage
        dataset.Modality = "MR"
        dataset.NumberOfFrames = count
        groups = [self._groups(index) for index in range(count)]
        common = Dataset()
        for name in shared:
            setattr(common, name, getattr(groups[0], name))
            for group in groups:
                delattr(group, name)
        dataset.SharedFunctionalGroupsSequence = Items([common])
        dataset.PerFrameFunctionalGroupsSequence = Items(groups)
        self.change(dataset, 0)
        return dataset

    def _groups(self, index: int) -> Dataset:
        return _nested(
            PlanePositionSequence={
                "ImagePositionPatient": [*(np.array(self.first_mm) + index * self.step)]
            },
            PlaneOrientationSequence={"ImageOrientationPatient": [*self.orientation]},
            PixelMeasuresSequence={"PixelSpacing": [*self.spacing_mm]},
            PixelValueTransformationSequence={"RescaleSlope": 2, "RescaleIntercept": index - 7},
            FrameContentSequence={"TemporalPositionIndex": 1},
        )


def _nested(**groups: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    for name, values in groups.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(dataset, name, Items([item]))
    return dataset


def _image(voxels: np.ndarray, series: Series) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series.study, series.uid
    dataset.FrameOfReferenceUID = series.frame_of_reference
    dataset.SeriesNumber = series.number
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = "DOE^JANE", "P-0001"
    dataset.PatientBirthDate = "19700203"
    dataset.Columns, dataset.Rows = voxels.shape[:2]
    bits = 8 * voxels.dtype.itemsize
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(voxels.dtype.kind == "i")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = voxels.T.astype(voxels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return dataset


def save(dataset: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a data set with the pixels in a coding."""
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", generate_uid())
    if syntax.is_compressed and not syntax.is_deflated:
        dataset.compress(syntax, generate_instance_uid=False)
    elif not syntax.is_little_endian:
        numbers = np.frombuffer(dataset.PixelData, f"u{dataset.BitsAllocated // 8}")
        dataset["PixelData"].value = numbers.byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path
