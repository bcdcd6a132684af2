"""Which files make one scan, and where its results go."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from segmaformer.runtime.errors import InputError

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """The files of one scan, one for each channel, and of its results.

    Attributes
    ----------
    preview, statistics
        PNG and JSON beside the label map; None where they are not wanted.
    """

    scan: tuple[Path, ...]
    label_map: Path
    preview: Path | None = None
    statistics: Path | None = None

    @property
    def results(self) -> list[Path]:
        """Every file that will be written."""
        wanted = (self.label_map, self.preview, self.statistics)
        return [path for path in wanted if path is not None]


def group_cases(
    files: tuple[Path, ...],
    *,
    channels: int,
    output: Path | None = None,
    preview: bool = False,
    statistics: bool = False,
) -> list[Case]:
    """Divide the files into scans and name their results.

    Parameters
    ----------
    files
        All channels of the first scan, then of the next.
    channels
        Files for each scan.
    output
        A file for one scan, an existing folder for any number, or None for
        ``NAME_seg.nii.gz`` beside each scan.
    preview, statistics
        Whether they are wanted beside the label map.

    Raises
    ------
    click.UsageError
        `output` cannot be what is asked for, or a result would replace a scan or
        another result.
    InputError
        The files do not come in groups of `channels`.
    """
    if len(files) % channels:
        raise InputError(
            f"the package takes {channels} channels, so files come in groups of {channels}; "
            f"{len(files)} were given"
        )
    scans = [files[start : start + channels] for start in range(0, len(files), channels)]
    label_maps = [_label_map(scan[0], output, len(scans)) for scan in scans]
    cases = [
        Case(
            scan,
            label_map,
            preview=_beside(label_map, ".png") if preview else None,
            statistics=_beside(label_map, ".json") if statistics else None,
        )
        for scan, label_map in zip(scans, label_maps, strict=True)
    ]
    _refuse_collisions(cases)
    return cases


def _label_map(scan: Path, output: Path | None, count: int) -> Path:
    name = f"{_stem(scan)}_seg.nii.gz"
    if output is None:
        return scan.with_name(name)
    if output.is_dir():
        return output / name
    if count > 1:
        raise click.UsageError(f"-o {output} is no folder, and there are {count} scans")
    if not output.name.lower().endswith(SUFFIXES):
        raise click.UsageError(
            f"-o {output} must end in {' or '.join(SUFFIXES)}, or be an existing folder"
        )
    return output


def _refuse_collisions(cases: list[Case]) -> None:
    results = Counter(path.resolve() for case in cases for path in case.results)
    scans = {path.resolve() for case in cases for path in case.scan}
    for path, count in results.items():
        if path in scans:
            raise click.UsageError(
                f"{path} is a scan and would be replaced; give another name by -o"
            )
        if count > 1:
            raise click.UsageError(f"{count} scans would write {path}; segment them one by one")


def _beside(label_map: Path, suffix: str) -> Path:
    return label_map.with_name(_stem(label_map) + suffix)


def _stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem
