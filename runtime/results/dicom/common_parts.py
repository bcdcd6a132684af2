"""Parts that every DICOM result has: its equipment, series number, codes and errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import segmaformer
from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.package.codes import Code

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from segmaformer.runtime.results.segmentation import Segmentation


def equipment(segmentation: Segmentation) -> dict[str, Any]:
    """Return the device that made a result: this software, and the package by its hash."""
    return {
        "manufacturer": "segmaformer",
        "manufacturer_model_name": segmentation.manifest.name[:64] or "segmaformer",
        "software_versions": segmaformer.__version__,
        "device_serial_number": segmentation.package_sha256,
    }


def series_number(header: Dataset, place: int) -> int:
    """Return the number of a result's series: that of the source, with two digits behind it."""
    source = int(header.get("SeriesNumber") or 0)
    return (source * 100 if 0 < source < 10_000_000 else 0) + place


def concept(code: Code) -> Any:
    """Return a code as highdicom's."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


@contextmanager
def without_names(what: str) -> Iterator[None]:
    """Keep out of messages what DICOM libraries say, which may be values of the patient.

    Raises
    ------
    SgmfError
        A library failed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SgmfError, OSError, MemoryError):
        raise
    except Exception as error:
        raise SgmfError(
            f"{what} cannot be made of this series ({type(error).__name__} in highdicom); give -o "
            "a name that ends in .nii.gz"
        ) from None
