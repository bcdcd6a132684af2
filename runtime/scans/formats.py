"""Scans and label maps of every format: NIfTI-1 and -2, NRRD and MetaImage; scans of DICOM, too.

The content of a file decides how it is read; its name decides how it is written. A folder that
holds DICOM files is read like a file.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans import metaimage, nifti, nifti_header, nrrd
from segmaformer.runtime.scans.compressed_labels import storable_labels
from segmaformer.runtime.scans.dicom.folder import holds_dicom
from segmaformer.runtime.scans.dicom.opening import is_dicom, is_dicom_part_10
from segmaformer.runtime.scans.file_kinds import PAIR, START_BYTES, file_kind, inflated_start
from segmaformer.runtime.scans.scan_file import ScanFile, file_state, read_volume
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.system.atomic import Target

_Labels = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class _Format:
    """Names of a format's files, and functions to recognise, read and write them.

    Attributes
    ----------
    suffixes
        File endings; the first is for label maps.
    """

    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]
    read_header: Callable[[Path], ScanFile]
    write_labels: Callable[[Target, _Labels, Volume], None]


_FORMATS = (
    _Format(
        (".nii.gz", ".nii"), nifti_header.is_nifti, nifti_header.read_header, nifti.write_labels
    ),
    _Format((".nrrd", ".nhdr"), nrrd.is_nrrd, nrrd.read_header, nrrd.write_labels),
    _Format(
        (".mha", ".mhd"), metaimage.is_metaimage, metaimage.read_header, metaimage.write_labels
    ),
)
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BY_SUFFIX = {suffix: format_ for format_ in _FORMATS for suffix in format_.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)
"""Endings of files that are scans. Voxels beside a detached header have others."""


def read_scan(
    paths: Sequence[str | Path | ScanFile],
    *,
    channels: int | None = None,
    budget_bytes: int | None = None,
    nan_to: float | None = None,
    where: Sequence[str] = (),
) -> Volume:
    """Read a scan from its files.

    Parameters
    ----------
    paths
        Files in the order of the channels: one for each, or files that hold several, or folders of
        DICOM files. They may be of different formats. A header that was read stands for its file.
    channels
        Number of channels that the model expects; a file may hold several. An undeclared fourth
        axis counts as channels only if it has this length. None accepts the files' own number.
    budget_bytes
        Largest memory for the voxels, in bytes; None for no limit.
    nan_to
        Replaces voxels that are NaN or infinite; None refuses such scans.
    where
        Conditions ``KEYWORD=VALUE`` on the images of a folder with several DICOM series.

    Returns
    -------
    Volume
        Voxels (C, X, Y, Z), float32, in the storage order of the files. Affine and header are those
        of the first file. Oddities of the files are in `remarks`.

    Raises
    ------
    ValueError, TypeError
        `paths` is empty, a single path or no sequence; `nan_to` is not finite; a condition of
        `where` has another form.
    FileNotFoundError
        A file does not exist.
    InputError
        A file is of no known format, damaged, shorter than its header promises, not
        three-dimensional, or holds voxels that are not finite real numbers; there are
        more or fewer channels; every voxel is zero.
    GeometryError
        A position, direction or spacing is missing or impossible, or the files lie on
        different grids.
    BudgetError
        The voxels need more memory than `budget_bytes`.
    """
    if not isinstance(paths, Sequence | Path):
        raise TypeError(
            f"paths is a {type(paths).__name__}; give a sequence, one file for each channel, or "
            "make a Volume of voxels in memory"
        )
    if isinstance(paths, str | bytes | Path) or not paths:
        raise ValueError(f"paths is {paths!r}; give a sequence, one file for each channel")
    files = [
        path if isinstance(path, ScanFile) else read_header(Path(path), where) for path in paths
    ]
    _check_channels(files, channels)
    volume = read_volume(files, budget_bytes=budget_bytes, nan_to=nan_to)
    if not volume.voxels.any():
        names = ", ".join(map(str, volume.source))
        raise InputError(f"every voxel of {names} is zero; there is nothing to segment")
    return volume


def read_labels(path: Path) -> Volume:
    """Read a file of one number for each voxel, such as a label map; all may be zero.

    Raises
    ------
    FileNotFoundError, InputError, GeometryError
        As for :func:`read_scan`; also if the file has more than one channel.
    """
    header = read_header(path)
    if header.channels != 1:
        raise InputError(f"{path} holds {header.channels} channels; expected a label map of one")
    return read_volume([header])


def read_header(path: Path, where: Sequence[str] = ()) -> ScanFile:
    """Read and check a file's header, but not its voxels.

    Parameters
    ----------
    path
        File, or folder of DICOM files.
    where
        As for :func:`read_scan`.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    InputError, GeometryError
        As for :func:`read_scan`.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"there is no scan at {path}")
    refusal = unreadable(path)
    if refusal is not None:
        raise InputError(refusal)
    if path.is_dir():
        return _read_series_header(path, where)
    try:
        state = file_state(path)
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if is_dicom_part_10(start):
        return _read_series_header(path, where)
    _check_kind(path, start)
    for format_ in _FORMATS:
        if format_.begins(start):
            return dataclasses.replace(format_.read_header(path), state=state)
    # The content is unknown: the format of that name reports what is missing.
    named = _format_named(path)
    if named is None and is_dicom(start):
        return _read_series_header(path, where)
    if named is None:
        raise InputError(f"{path} is no scan; expected a file that ends in {', '.join(SUFFIXES)}")
    return named.read_header(path)


def _read_series_header(path: Path, where: Sequence[str]) -> ScanFile:
    from segmaformer.runtime.scans.dicom.scan import read_series_header

    return read_series_header(path, where)


def unreadable(path: Path) -> str | None:
    """Return the reason why a path is no scan to read; None if it may be.

    A file is not opened. A folder may be one if it holds DICOM files.
    """
    expected = f"expected a file that ends in {', '.join(SUFFIXES)}"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            return (
                f"{path} is a link to {os.readlink(path)}, which cannot be followed: "
                f"{error.strerror or error}. Copy the file itself, or correct the link"
            )
        return f"{path} cannot be read: {error.strerror or error}"
    if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and holds_dicom(path)):
        return None
    found = next((name for is_kind, name in _NO_FILES if is_kind(mode)), "no regular file")
    return f"{path} is {found}; {expected}"


def write_label_map(path: Target, labels: _Labels, like: Volume) -> None:
    """Write labels on the grid of the scan that they belong to, in the format of the name.

    The file appears under its name only when it is complete. It is one file: ``.nhdr`` and
    ``.mhd``, too, hold their voxels. A NIfTI of a NIfTI has its qform and sform codes and matrices
    and its units, bit for bit.

    Parameters
    ----------
    path
        File to write, with one of the endings in `SUFFIXES`.
    labels
        Labels (X, Y, Z) in the storage order of `like`; written as uint8, or as uint16 if a label
        exceeds 255.

    Raises
    ------
    ValueError
        The file ending is unknown, the shape differs from `like`'s, or a label is above 65535.
    TypeError
        `labels` are not unsigned integers.
    FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
        The file cannot be written there.
    """
    _writer(Path(path))(path, storable_labels(labels, like), like)


def write_probability(path: Target, values: npt.NDArray[np.float32], like: Volume) -> None:
    """Write float32 values (X, Y, Z) on the grid of `like`; as :func:`write_label_map` does."""
    if values.shape != like.shape:
        raise ValueError(f"values have shape {values.shape}; the scan has {like.shape}")
    _writer(Path(path))(path, values.astype("<f4", copy=False), like)


def _writer(path: Path) -> Callable[[Target, Any, Volume], None]:
    named = _format_named(path)
    if named is None:
        raise ValueError(f"a label map's name must end in {', '.join(SUFFIXES)}; {path} does not")
    return named.write_labels


def label_map_suffix(scan: Path) -> str:
    """Return the ending for a label map in a scan's format: that of one file, compressed."""
    return (_format_named(scan) or _FORMATS[0]).suffixes[0]


def scan_name(path: Path) -> str:
    """Return the file name without the ending of its format; a folder's is whole."""
    name = path.name
    if suffix := _suffix_of(name):
        return name[: -len(suffix)]
    return name if path.is_dir() else path.stem


def scan_suffix(path: Path) -> str:
    """Return the ending of the format, as it is written, or nothing."""
    return _suffix_of(path.name)


def _suffix_of(name: str) -> str:
    lowered = name.lower()
    for suffix in SUFFIXES:
        if lowered.endswith(suffix):
            return name[-len(suffix) :]
    return ""


def _format_named(path: Path) -> _Format | None:
    return _BY_SUFFIX.get(scan_suffix(path).lower())


def _check_kind(path: Path, start: bytes) -> None:
    """Raise an error that names the kind of a file known not to be a scan."""
    if not start:
        raise InputError(f"{path} is empty; copy it again from its source")
    kind = file_kind(start)
    inside = inflated_start(start) or start
    if (
        kind is None
        and path.name.lower().endswith((".img", ".img.gz"))
        and not any(format_.begins(inside) for format_ in _FORMATS)
    ):
        kind = PAIR
    if kind is not None:
        raise InputError(
            f"{path} is {kind.name}; expected a scan, a file that ends in {', '.join(SUFFIXES)}. "
            f"{kind.advice}"
        )


def _check_channels(files: Sequence[ScanFile], expected: int | None) -> None:
    found = sum(file.channels for file in files)
    unclear = next((file for file in files if not file.channels_declared), None)
    if found == expected or (expected is None and unclear is None):
        return
    if unclear is not None:
        raise InputError(
            f"{unclear.path} is 4-D, with {unclear.channels} entries along its fourth axis; "
            f"expected a 3-D scan, or {_expected_channels(expected)}. If they are channels, "
            "give files that hold as many as the package takes; a time series must be split into "
            "one file for each scan"
        )
    several = [f"{file.path} holds {file.channels}" for file in files if file.channels > 1]
    number = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    given = "; ".join([f"{number} given", *several])
    raise InputError(
        f"the model expects {_count(expected)} and {given}; "
        "give one file for each channel, in the model's order, or one that holds them all"
    )


def _expected_channels(expected: int | None) -> str:
    if expected is None:
        return "a package that takes them as channels (-m PACKAGE)"
    return f"the {_count(expected)} that the model expects"


def _count(channels: int | None) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"
