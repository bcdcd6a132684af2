"""A file's whole header as pydicom's data set, for those who copy from it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.opening import LONGEST_HEADER, inflate_start, open_file

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_PIXEL_GROUP = 0x7FE0


def read_dataset(path: Path) -> FileDataset:
    """Read a DICOM file without its pixels; a deflated one no further than a header may go.

    Raises
    ------
    InputError
        The file is no DICOM file, or damaged.
    """
    import pydicom
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset as read_from
    from pydicom.filereader import read_file_meta_info

    opened = open_file(path)
    if opened is None:
        raise InputError(f"{path} is no DICOM file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may name the patient
            if opened.syntax is None or not opened.syntax.deflated:
                return pydicom.dcmread(path, stop_before_pixels=True, force=True)
            with path.open("rb") as stream:
                content = io.BytesIO(inflate_start(stream, opened, LONGEST_HEADER))
            elements = read_from(
                content, False, True, stop_when=lambda tag, *_: tag.group == _PIXEL_GROUP
            )
            return FileDataset(path, elements, file_meta=read_file_meta_info(path))
    except InputError:
        raise
    except Exception as error:  # pydicom raises what it likes, with texts of the file
        raise InputError(
            f"{path} is damaged: its header cannot be read ({type(error).__name__})"
        ) from None
