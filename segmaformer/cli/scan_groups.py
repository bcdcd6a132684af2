"""Grouping of files, or of one folder, into scans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.channels import (
    ScanCase,
    channels_in,
    group_channels,
    is_series,
    series_below,
    why_unreadable,
)
from segmaformer.runtime.scans.formats import read_header, scan_name

_NUMBERED = re.compile(r".+_[0-9]{4}")


def group_scans(
    paths: Sequence[Path], *, channels: int, into_folder: bool = False
) -> list[ScanCase]:
    """Divide one folder, or files, into scans; see :func:`segmaformer.cli.cases.group_cases`."""
    paths = [path.resolve() if path.name in ("", "..") else path for path in paths]
    if all(not path.is_dir() or is_series(path) for path in paths):
        below = series_below(paths[0]) if into_folder and paths[0].is_dir() else []
        if len(paths) == 1 and below:
            return group_channels(below, channels=channels)
        return _scans_of_files(paths, channels)
    if len(paths) > 1:
        raise click.UsageError("give one folder of scans, or files, but not both")
    return group_channels(paths[0], channels=channels)


def _scans_of_files(files: Sequence[Path], channels: int) -> list[ScanCase]:
    if channels > 1 and all(_NUMBERED.fullmatch(scan_name(path)) for path in files):
        cases = group_channels(files, channels=channels)
        if len(files) % channels and any(case.refusal for case in cases):
            raise InputError(_misfit(files, channels))
        return cases
    groups = [(path,) for path in files] if channels == 1 else _divide(files, channels)
    return [ScanCase(scan_name(group[0]), group, why_unreadable(group)) for group in groups]


def _divide(files: Sequence[Path], channels: int) -> list[tuple[Path, ...]]:
    """Group consecutive files so that each group holds all channels."""
    groups: list[tuple[Path, ...]] = []
    group: tuple[Path, ...] = ()
    held = 0
    for path in files:
        group, held = (*group, path), held + channels_in(path)
        if held > channels:
            break
        if held == channels:
            groups.append(group)
            group, held = (), 0
    if held:
        raise InputError(_misfit(files, channels))
    return groups


def _misfit(files: Sequence[Path], channels: int) -> str:
    counts = {path: channels_in(path) for path in files}
    remarks = [f"{path} holds {count}" for path, count in counts.items() if count != 1]
    for path in files:
        try:
            read_header(path)
        except InputError as error:
            remarks.append(str(error))
        except OSError:
            continue
    return "; ".join(
        [
            f"the package takes {channels} channels, so files come in groups that hold {channels}; "
            f"{len(files)} were given",
            *remarks,
        ]
    )
