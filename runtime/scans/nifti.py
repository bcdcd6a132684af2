"""Writing of label maps as NIfTI files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.system.atomic import Target, atomic_file

_LEVEL = 1

_PLACEMENT_FIELDS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


def write_labels(path: Target, labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume) -> None:
    """Write labels (X, Y, Z) of the scan `like`, atomically; compressed if `path` ends in ``.gz``.

    The file has the qform and sform codes and matrices and the units of ``like.header``, bit for
    bit, and nothing else of that header.
    """
    write_image(path, _label_image(labels, like))


def write_image(path: Target, image: Any) -> None:
    """Write an image of nibabel, atomically; compressed if `path` ends in ``.gz``."""
    with atomic_file(path) as stream:
        if Path(path).suffix.lower() != ".gz":
            image.to_stream(stream)
            return
        with gzip.GzipFile("", "wb", _LEVEL, stream, mtime=0) as deflating:
            image.to_stream(deflating)


def _label_image(labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume) -> Any:
    if not isinstance(like.header, nibabel.Nifti1Header):
        image: Any = nibabel.Nifti1Image(labels, like.affine)
        image.header.set_xyzt_units("mm")
        return image
    version_2 = isinstance(like.header, nibabel.Nifti2Header)
    kind: Any = nibabel.Nifti2Image if version_2 else nibabel.Nifti1Image
    # Without an affine, nibabel leaves the header's own unchanged.
    return kind(labels, None, _label_header(labels, like.header))


def _label_header(labels: npt.NDArray[np.unsignedinteger[Any]], scan_header: Any) -> Any:
    header = type(scan_header)()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape)
    for name in _PLACEMENT_FIELDS:
        header[name] = scan_header[name]
    header["pixdim"][:4] = scan_header["pixdim"][:4]
    return header
