"""Grouping of files into the channels of scans, by nnU-Net's naming.

``CASE_0000.nii.gz`` and ``CASE_0001.nii.gz`` are channels 0 and 1 of CASE; any other name is a case
of its own. Channels are counted when files are read: a file may hold several.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.dicom.folder import holds_dicom
from segmaformer.runtime.scans.dicom.opening import open_file
from segmaformer.runtime.scans.formats import (
    SUFFIXES,
    read_header,
    scan_name,
    unreadable,
)

_CHANNEL_NAME = re.compile(r"(.+)_([0-9]{4})")


@dataclass(frozen=True)
class ScanCase:
    """Files of one scan.

    Attributes
    ----------
    name
        Common name of the files, without channel number and ending.
    files
        Files in the order of the channels. A refused case has all files of its name.
    refusal
        Reason why this is no scan that the model takes, and advice; None if it may be one.
    """

    name: str
    files: tuple[Path, ...]
    refusal: str | None = None


def group_channels(files: Path | Iterable[Path], *, channels: int) -> list[ScanCase]:
    """Group files into scans by their names; an error in one scan leaves the others.

    Parameters
    ----------
    files
        A folder, whose visible files with a scan's name are taken, without those of folders below;
        if there are none, the folders in it that hold DICOM files, or the folder itself. Or the
        files and DICOM folders themselves, of any folders and in any order.
    channels
        Number of channels that the model expects. A file without a channel number may hold them
        all, as reading it shows; numbered files may do so together.

    Returns
    -------
    list of ScanCase
        Scans, ordered by folder and name. A case is refused if it lacks a channel or has one too
        many, if two files claim the same channel, such as ``CASE.nii.gz`` and ``CASE.nrrd``, or if
        one with a scan's name is no file but a folder, a pipe or a link that leads nowhere.

    Raises
    ------
    InputError
        There are no files, or the folder cannot be read.
    """
    scans = _scans_in(files) if isinstance(files, Path) else [*dict.fromkeys(files)]
    plain = _plain_files(files) if isinstance(files, Path) else set()
    if not scans:
        place = f"in {files}" if isinstance(files, Path) else "given"
        raise InputError(
            f"no scans are {place}; expected files that end in {', '.join(SUFFIXES)}, or folders "
            "of DICOM files"
        )
    # Folders are compared as paths, but names as texts: a cohort has many of them.
    members: dict[str, dict[str, list[tuple[int | None, Path]]]] = {}
    for path in scans:
        name, channel = _case_and_channel(path)
        folder = members.setdefault(os.path.dirname(str(path)), defaultdict(list))
        folder[name].append((channel, path))
    return [
        _case(name, members[folder][name], channels, plain)
        for folder in sorted(members, key=Path)
        for name in sorted(members[folder])
    ]


def is_series(path: Path) -> bool:
    """Tell if a folder holds DICOM files, and no visible file with a scan's name."""
    return path.is_dir() and not any(map(_is_scan_name, _names(path))) and holds_dicom(path)


def series_below(folder: Path) -> list[Path]:
    """Return the folders in a folder that hold DICOM files; none if such files lie beside them."""
    inside = [folder / name for name in _names(folder)]
    if any(path.is_file() and open_file(path) is not None for path in inside):
        return []
    return [path for path in inside if path.is_dir() and holds_dicom(path)]


def why_unreadable(files: Iterable[Path]) -> str | None:
    """Return the reason why one of these exists but cannot be read; None if all can."""
    for path in files:
        refusal = unreadable(path)
        if refusal is not None and os.path.lexists(path):
            return refusal
    return None


def channels_in(path: Path) -> int:
    """Return the number of channels in a file's header; 1 if it cannot be read, or for a folder."""
    if path.is_dir():
        return 1
    try:
        return read_header(path).channels
    except (InputError, OSError):
        return 1


def _scans_in(folder: Path) -> list[Path]:
    files = [folder / name for name in filter(_is_scan_name, _names(folder))]
    return files or series_below(folder) or [folder] * holds_dicom(folder)


def _plain_files(folder: Path) -> set[str]:
    """Return the names in a folder that are files and no links, which need no look-up."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}


def _is_scan_name(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _names(folder: Path) -> list[str]:
    """Return the visible names in a folder, in order."""
    try:
        names = sorted(os.listdir(folder))
    except PermissionError as error:
        raise InputError(
            f"the folder {folder} cannot be read: {error.strerror}; change its permissions"
        ) from error
    return [name for name in names if not name.startswith(".")]


def _case_and_channel(path: Path) -> tuple[str, int | None]:
    name = scan_name(path)
    numbered = _CHANNEL_NAME.fullmatch(name)
    return (numbered.group(1), int(numbered.group(2))) if numbered else (name, None)


def _case(
    name: str, members: list[tuple[int | None, Path]], channels: int, plain: Collection[str]
) -> ScanCase:
    if len(members) > 1:
        members.sort(key=lambda member: (member[0] or 0, member[1]))
    files = tuple(path for _, path in members)
    numbers = [number for number, _ in members]
    refusal = why_unreadable(path for path in files if path.name not in plain)
    if refusal is not None:
        return ScanCase(name, files, refusal)
    if numbers in ([None], [*range(channels)]):
        return ScanCase(name, files)
    found = [number for number in numbers if number is not None]
    if None in numbers or len(set(found)) < len(found):
        return ScanCase(name, files, _confusion(name, files))
    if len(files) < channels and _hold_together(files, found, channels):
        return ScanCase(name, files)
    return ScanCase(name, files, _mismatch(name, found, channels))


def _hold_together(files: Sequence[Path], numbers: list[int], channels: int) -> bool:
    """Tell if numbered files, of which some hold several channels, hold them all."""
    counts = [channels_in(path) for path in files]
    firsts = [0, *itertools.accumulate(counts)][: len(counts)]
    in_order = len(files) == 1 or numbers in ([*range(len(files))], firsts)
    return sum(counts) == channels and in_order


def _confusion(name: str, files: tuple[Path, ...]) -> str:
    names = ", ".join(path.name for path in files)
    return (
        f"{names} have the case name {name} in common; a case is one file, or one for each "
        "channel numbered _0000, _0001 and so on. Remove duplicates or rename them"
    )


def _mismatch(name: str, found: list[int], channels: int) -> str:
    expected = "0000" if channels == 1 else f"0000 to {channels - 1:04}"
    return (
        f"{name} has the channels {', '.join(f'{number:04}' for number in found)}; the model "
        f"expects {expected}. Add or remove files; where the number is part of the case's name, "
        "rename the file so that it does not end in _ and four digits"
    )
