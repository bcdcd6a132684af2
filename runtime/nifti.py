"""NIfTI scans in, label maps out on the same grid.

Voxels are read one slice at a time. So no more is held than the float32 result, whatever
type and scaling the file uses and whatever its header claims.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
import numpy.typing as npt

from segmaformer.runtime.atomic import atomic_path
from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.nifti_header import SUFFIXES, ScanFile, open_scan, read_header
from segmaformer.runtime.volume import Volume

# Corners of two channels' grids may differ by this part of the smallest voxel edge.
_GRID_TOLERANCE = 0.01
_PLACEMENT_FIELDS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


def read_nifti(paths: Sequence[str | Path], *, channels: int | None = None) -> Volume:
    """Read a scan of one NIfTI-1 or NIfTI-2 file for each channel.

    Parameters
    ----------
    paths
        ``.nii`` or ``.nii.gz`` files in the order of the channels.
    channels
        How many the model expects, or None to take what is given.

    Returns
    -------
    Volume
        Voxels (C, X, Y, Z), float32, scaled by the header's slope and intercept, in
        storage order. Affine and header are those of the first file.

    Raises
    ------
    FileNotFoundError
        A file does not exist.
    InputError
        A file is no NIfTI, damaged, shorter than its header promises, not
        three-dimensional, or holds voxels that are not finite real numbers; the number
        of files is wrong; every voxel is zero.
    GeometryError
        An affine is singular or not finite, a spacing is zero, or channels lie on
        different grids: another shape, or corners further apart than a hundredth of the
        smallest voxel edge.
    """
    if isinstance(paths, str | Path) or not paths:
        raise ValueError(f"paths is {paths!r}; give a sequence, one file for each channel")
    if channels is not None and len(paths) != channels:
        raise InputError(
            f"the model expects {channels} channels and {len(paths)} files are given; "
            "give one file for each channel, in the model's order"
        )
    files = [read_header(Path(path)) for path in paths]
    for other in files[1:]:
        _check_same_grid(files[0], other)
    voxels = _allocate(files)
    for file, channel in zip(files, voxels, strict=True):
        _read_voxels(file, channel)
    source = tuple(file.path for file in files)
    if not voxels.any():
        names = ", ".join(map(str, source))
        raise InputError(f"every voxel of {names} is zero; there is nothing to segment")
    return Volume(voxels, files[0].affine, files[0].header, source)


def write_label_map(
    path: str | Path, labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume
) -> None:
    """Write labels on the grid of the scan that they belong to.

    The file has the qform and sform codes and matrices and the units of ``like.header``,
    bit for bit; nothing else of that header is taken over. It appears under its name
    only when it is complete.

    Parameters
    ----------
    path
        Ends in ``.nii`` or ``.nii.gz``.
    labels
        (X, Y, Z) in the storage order of `like`; written as uint8, or as uint16 if a
        label exceeds 255.

    Raises
    ------
    ValueError
        Another file ending, another shape than `like`, or a label above 65535.
    TypeError
        `labels` are not unsigned integers.
    FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
        The file cannot be written there.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"label maps are NIfTI files; {path} must end in {' or '.join(SUFFIXES)}")
    if labels.shape != like.shape:
        raise ValueError(f"labels have shape {labels.shape}; the scan has {like.shape}")
    if labels.dtype.kind != "u":
        raise TypeError(f"labels are {labels.dtype}; expected unsigned integers")
    largest = int(labels.max())
    if largest > np.iinfo(np.uint16).max:
        raise ValueError(f"the largest label is {largest}; label maps hold labels up to 65535")
    dtype = np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16
    image = _label_image(labels.astype(dtype), like)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def _label_image(labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume) -> Any:
    if like.header is None:
        image: Any = nibabel.Nifti1Image(labels, like.affine)
        image.header.set_xyzt_units("mm")
        return image
    version_2 = isinstance(like.header, nibabel.Nifti2Header)
    kind: Any = nibabel.Nifti2Image if version_2 else nibabel.Nifti1Image
    # Given no affine, nibabel leaves the header's own as it is.
    return kind(labels, None, _label_header(labels, like.header))


def _label_header(labels: npt.NDArray[np.unsignedinteger[Any]], scan_header: Any) -> Any:
    header = type(scan_header)()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape)
    for name in _PLACEMENT_FIELDS:
        header[name] = scan_header[name]
    header["pixdim"][:4] = scan_header["pixdim"][:4]
    return header


def _check_same_grid(first: ScanFile, other: ScanFile) -> None:
    if first.shape != other.shape:
        raise GeometryError(
            f"{other.path} has shape {other.shape}, {first.path} has {first.shape}; "
            "all channels must lie on one grid. Resample them to one of them"
        )
    corners = [*itertools.product(*((0, length - 1) for length in first.shape))]
    difference = (other.affine - first.affine)[:3]
    shifts = difference[:, :3] @ np.transpose(corners) + difference[:, 3:]
    distance_mm = float(np.linalg.norm(shifts, axis=0).max())
    tolerance_mm = _GRID_TOLERANCE * float(np.linalg.norm(first.affine[:3, :3], axis=0).min())
    if distance_mm > tolerance_mm:
        raise GeometryError(
            f"{other.path} lies up to {distance_mm:.3g} mm away from {first.path}; all channels "
            f"must lie on one grid, within {tolerance_mm:.3g} mm. Resample them to one of them"
        )


def _allocate(files: Sequence[ScanFile]) -> npt.NDArray[np.float32]:
    """Array (C, X, Y, Z) in the files' memory order, X fastest."""
    x, y, z = files[0].shape
    try:
        return np.empty((len(files), z, y, x), np.float32).transpose(0, 3, 2, 1)
    except MemoryError:
        raise InputError(
            f"{files[0].path} has shape {files[0].shape}; "
            f"{len(files) * x * y * z * 4 / 2**30:.3g} GiB of memory are needed to read it"
        ) from None


def _read_voxels(file: ScanFile, channel: npt.NDArray[np.float32]) -> None:
    """Fill `channel` (X, Y, Z) from the file and refuse voxels that are not finite."""
    bad = 0
    first_bad: list[int] = []
    with open_scan(file.path) as stream:
        stream.seek(file.offset)
        for z in range(file.shape[2]):
            plane = channel[:, :, z]
            plane[...] = _read_plane(stream, file)
            if not np.isfinite(plane).all():
                where = np.argwhere(~np.isfinite(plane))
                first_bad = first_bad or [*map(int, where[0]), z]
                bad += len(where)
        stream.read(1)  # at the end of the file gzip compares its checksum
    if bad:
        raise InputError(
            f"{bad} of {channel.size} voxels of {file.path} are NaN or infinite, the first at "
            f"{first_bad}; expected finite numbers. Repair the step that produced the scan"
        )


def _read_plane(stream: BinaryIO, file: ScanFile) -> npt.NDArray[np.float32]:
    """Read the next slice (X, Y), scaled in float64 before it is rounded to float32."""
    x, y, _ = file.shape
    raw = np.empty(x * y * file.dtype.itemsize, np.uint8)
    _fill(stream, raw.data)
    plane = raw.view(file.dtype).reshape((x, y), order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as such
        if (file.slope, file.intercept) != (1.0, 0.0):
            plane = plane.astype(np.float64) * file.slope + file.intercept
        return plane.astype(np.float32)


def _fill(stream: BinaryIO, buffer: memoryview) -> None:
    while buffer:
        count = stream.readinto(buffer)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it holds fewer voxels than its header promises")
        buffer = buffer[count:]
