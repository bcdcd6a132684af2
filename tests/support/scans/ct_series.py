"""DICOM series of a small CT with a marked identity, written by pydicom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SHAPE = (24, 20, 6)
"""Columns, rows and images."""
SPACING_MM = (0.75, 0.625, 2.5)
"""Between columns, rows and images."""
MARKS = {
    "PatientName": "Quimby^Zelda",
    "PatientID": "ID-4711-XYZZY",
    "PatientBirthDate": "19230817",
}
"""Values that nothing but group 0010 of a DICOM result may hold."""


def write_ct_series(
    folder: Path,
    voxels: np.ndarray | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    name: str = "image {}.dcm",
) -> Path:
    """Write one file for each image and return the folder.

    Parameters
    ----------
    voxels
        Intensities (columns, rows, images), int16; None makes noise.
    changes
        Values of attributes of every image; None leaves an attribute out.
    name
        Name of a file, with a place for the number of the image.
    """
    folder.mkdir(exist_ok=True)
    if voxels is None:
        voxels = np.random.default_rng(3).integers(-900, 900, SHAPE).astype(np.int16)
    for index in range(voxels.shape[2]):
        image = _image(voxels[:, :, index], index)
        for keyword, value in (changes or {}).items():
            if value is None:
                del image[keyword]
            else:
                setattr(image, keyword, value)
        image.save_as(folder / name.format(index), enforce_file_format=True)
    return folder


def _image(plane: np.ndarray, index: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = f"1.2.3.4.{index + 1}"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    image.FrameOfReferenceUID = "1.2.3.3"
    for keyword, value in MARKS.items():
        setattr(image, keyword, value)
    image.PatientSex = "O"
    image.PatientWeight = "71.5"
    image.StudyDate, image.StudyTime = "20200102", "030405"
    image.StudyID, image.AccessionNumber = "S7", "A9"
    image.ReferringPhysicianName = "Physician^Pat"
    image.InstitutionName = "Hospital of Nowhere"
    image.Modality = "CT"
    image.SeriesNumber, image.InstanceNumber = 4, index + 1
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [-9, -7.5, 100 + SPACING_MM[2] * index]
    image.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    image.SliceThickness = 1
    image.Columns, image.Rows = plane.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.PixelData = plane.T.astype("<i2").tobytes()
    return image
