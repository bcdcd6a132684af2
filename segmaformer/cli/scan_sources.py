"""Scans of a cohort: those that a list names, or those in the folders below one."""

from __future__ import annotations

import csv
import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.channels import ScanCase, group_channels, why_unreadable
from segmaformer.runtime.scans.dicom.folder import files_below
from segmaformer.runtime.scans.formats import SUFFIXES, scan_name, scan_suffix

_DERIVED = frozenset(("derivatives", "sourcedata", "code"))
"""Folders of a BIDS data set that hold no raw scans."""


@dataclass(frozen=True)
class Source:
    """Source of a cohort's scans, if not the arguments.

    Attributes
    ----------
    list_file
        List of scans, see :func:`scans_of_list`.
    pattern
        Pattern of the names of files below a folder, see :func:`scans_below`.
    """

    list_file: Path | None = None
    pattern: str | None = None

    @property
    def is_table(self) -> bool:
        """True if the list is a table that names cases."""
        return self.list_file is not None and self.list_file.suffix.lower() == ".csv"


ARGUMENTS = Source()
"""Scans that the arguments name."""


def scans_below(folder: Path, pattern: str, *, channels: int) -> list[ScanCase]:
    """Find the scans in a folder and those below it.

    Parameters
    ----------
    folder
        Folder, whose hidden files and folders are left out. Of a BIDS data set, which holds
        ``dataset_description.json``, derivatives, source data and code are left out; of one of
        nnU-Net, which holds ``dataset.json``, only the folders ``images...`` are taken.
    pattern
        Pattern that the files' names must match, such as ``*_T1w.nii.gz``.
    channels
        Number of channels of each scan.

    Raises
    ------
    InputError
        No file matches.
    """
    files = [
        path
        for path in files_below(folder)
        if path.name.lower().endswith(SUFFIXES)
        and fnmatch.fnmatch(path.name, pattern)
        and _holds_scans(folder, path)
    ]
    if not files:
        raise InputError(
            f"no file below {folder} is named {pattern} and ends in {', '.join(SUFFIXES)}"
        )
    return group_channels(files, channels=channels)


def _holds_scans(folder: Path, path: Path) -> bool:
    """Tell if a data set's layout says that a file is a scan."""
    top = path.relative_to(folder).parts[0]
    if (folder / "dataset.json").exists():
        return top.startswith("images")
    return not ((folder / "dataset_description.json").exists() and top in _DERIVED)


def scans_of_list(path: Path, *, channels: int) -> list[ScanCase]:
    """Read a list of scans.

    Parameters
    ----------
    path
        Text with one path a line; nnU-Net's numbered channels are grouped by their names. Or a CSV
        file with a line of headings: the first column names the case, the others are its channels
        in the package's order. Paths are relative to the current folder.
    channels
        Number of channels of each scan.

    Raises
    ------
    click.UsageError
        The list has no scans, names a file or case twice, or a file that does not exist; or a line
        has too few columns.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if path.suffix.lower() == ".csv":
        scans = [*_cases_of_table(path, lines)]
        _refuse_twice(path, [scan.name for scan in scans])
    else:
        files = [Path(line.strip()) for line in lines if line.strip()]
        _refuse_twice(path, [*map(str, files)])
        scans = group_channels(files, channels=channels) if files else []
    if not scans:
        raise click.UsageError(f"{path} lists no scans")
    for file in (file for scan in scans for file in scan.files):
        if not os.path.lexists(file):
            raise click.UsageError(f"{path} lists {file}, which does not exist")
    return scans


def _cases_of_table(path: Path, lines: Sequence[str]) -> Iterator[ScanCase]:
    rows = csv.reader(lines)
    headings = next(rows, [])
    for number, row in enumerate(rows, 2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != len(headings) or len(cells) < 2 or not all(cells):
            raise click.UsageError(
                f"line {number} of {path} is {','.join(cells)!r}; expected a name and "
                f"{len(headings) - 1} file(s), as in the headings {','.join(headings)!r}"
            )
        if Path(cells[0]).name != cells[0]:
            raise click.UsageError(f"line {number} of {path}: {cells[0]!r} is no name of a file")
        files = tuple(map(Path, cells[1:]))
        yield ScanCase(cells[0], files, why_unreadable(files))


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise click.UsageError(f"{path} lists {name} {count} times")


def common_folder(scans: Sequence[ScanCase]) -> Path:
    """Return the folder that all scans lie in or below."""
    folders = {os.path.dirname(os.path.abspath(file)) for scan in scans for file in scan.files[:1]}
    return Path(os.path.commonpath(folders))


def are_numbered(scans: Sequence[ScanCase]) -> bool:
    """Tell if every file has a channel's number at the end of its name, as nnU-Net's have."""
    return all(
        scan_suffix(file) and scan_name(file) != scan.name for scan in scans for file in scan.files
    )
