"""Grouping of files into scans, and the names of their results."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from segmaformer.cli.result_places import Places
from segmaformer.cli.scan_groups import group_scans
from segmaformer.cli.scan_sources import (
    ARGUMENTS,
    Source,
    are_numbered,
    common_folder,
    scans_below,
    scans_of_list,
)
from segmaformer.runtime.results.dicom.segments import SegmentationType
from segmaformer.runtime.results.segmentation import DICOM_SUFFIX
from segmaformer.runtime.scans.channels import (
    ScanCase,
    is_series,
)
from segmaformer.runtime.scans.dicom.opening import open_file
from segmaformer.runtime.scans.formats import (
    SUFFIXES,
    label_map_suffix,
    scan_name,
    scan_suffix,
)

ResultNames = Literal["seg", "nnunet"]
RESULT_NAME = "_seg"
RESULT_SUFFIXES = (*SUFFIXES, DICOM_SUFFIX)
"""Endings of label maps that can be written."""


@dataclass(frozen=True)
class Case:
    """The input files or DICOM folders of one scan, and its result files.

    Attributes
    ----------
    label_map, record
        Always written: the labels, and the record of how they were made.
    preview, statistics, report
        PNG, JSON and HTML beside the label map; None if not requested.
    probabilities
        File for each label whose probability map is requested.
    refusal
        Reason why the files are no scan that the package takes; None if they may be.
    segmentation_type
        Type of the label map if it is a DICOM segmentation, else None.
    dicom_report
        DICOM report of volumes beside the label map; None if not requested.
    """

    scan: tuple[Path, ...]
    label_map: Path
    preview: Path | None = None
    statistics: Path | None = None
    report: Path | None = None
    probabilities: tuple[tuple[str, Path], ...] = ()
    refusal: str | None = None
    segmentation_type: SegmentationType | None = None
    dicom_report: Path | None = None

    @property
    def name(self) -> str:
        """Name of the scan's first file."""
        return self.scan[0].name

    @functools.cached_property
    def record(self) -> Path:
        """JSON record beside the label map."""
        return _beside(self.label_map, ".run.json")

    @property
    def results(self) -> list[Path]:
        """Requested result files, without the record."""
        wanted = (
            self.label_map,
            self.dicom_report,
            self.preview,
            self.statistics,
            self.report,
        )
        maps = [path for _, path in self.probabilities]
        return [path for path in (*wanted, *maps) if path is not None]

    @property
    def written(self) -> list[Path]:
        """Every file that will be written: the results and the record."""
        return [*self.results, self.record]


@dataclass(frozen=True)
class Wanted:
    """Optional results to write besides each label map.

    Attributes
    ----------
    report
        HTML file for one scan, or an existing folder for any number.
    segmentation_type
        Type of DICOM segmentations; None is binary where label maps are DICOM at all.
    dicom_report
        Whether to write a DICOM report of volumes, which refers to a DICOM segmentation.
    """

    preview: bool = False
    statistics: bool = False
    report: Path | None = None
    probabilities: tuple[str, ...] = ()
    segmentation_type: SegmentationType | None = None
    dicom_report: bool = False


def group_cases(
    paths: Sequence[Path],
    *,
    channels: int,
    output: Path | None = None,
    wanted: Wanted = Wanted(),
    package: Path | None = None,
    source: Source = ARGUMENTS,
    result_names: ResultNames | None = None,
) -> list[Case]:
    """Divide files into scans and name their results.

    Parameters
    ----------
    paths
        One folder of scans, whose channels are grouped by nnU-Net's names; or files. Files are
        grouped by those names too if there are several channels and all names end in a number;
        otherwise all channels of the first scan come first, then those of the next. A folder of
        DICOM files counts as a file; if `output` is a folder, a folder of such folders is one of
        scans.
    channels
        Number of channels of each scan; a file may hold several.
    output
        A file for one scan, a folder for any number, or None for ``NAME_seg`` beside each scan, in
        the scan's format, which for DICOM is a segmentation. A folder of scans needs a folder here.
    wanted
        Optional results to write beside each label map.
    package
        Folder of the package, which results must not lie in.
    source
        List of the scans in place of `paths`, or pattern of the files below a folder. Results lie
        in the same folders below `output` as the scans below their common one.
    result_names
        ``nnunet`` for CASE.nii.gz, ``seg`` for NAME_seg.nii.gz. None is ``nnunet`` for a folder
        whose files all have nnU-Net's channel numbers, if `output` is another one.

    Raises
    ------
    click.UsageError
        `output` does not suit the number of scans; or a result would replace a scan, another
        result, or a label map that `output` does not name and no run has made; or lie in the
        package.
    InputError
        The files do not divide into groups of `channels` channels.
    """
    found = _find_scans(paths, channels, output, source)
    scans = found.scans
    if output is not None and output.is_dir() and found.folder is not None:
        scans = _without_results(scans, output, found.folder)
    _check_report(wanted.report, len(scans))
    name = _naming(found, output, len(scans), result_names)
    cases = [_case(scan, name(scan), wanted) for scan in scans]
    if found.root is not None:
        for folder in {case.label_map.parent for case in cases}:
            folder.mkdir(parents=True, exist_ok=True)
    places = Places(cases)
    places.refuse_collisions()
    if output is None or output.is_dir():
        places.keep_label_maps_of_others()
    if package is not None:
        places.keep_out(package)
    return cases


@dataclass(frozen=True)
class _Found:
    """Scans, and how their results are named.

    Attributes
    ----------
    folder
        Folder that was given; None for files or a list.
    root
        Folder below which the scans' own folders are kept for the results; None keeps none.
    by_case
        Whether a list names the cases.
    """

    scans: list[ScanCase]
    folder: Path | None = None
    root: Path | None = None
    by_case: bool = False


def _find_scans(
    paths: Sequence[Path], channels: int, output: Path | None, source: Source
) -> _Found:
    if source.list_file is not None:
        if paths:
            raise click.UsageError(f"--list {source.list_file} names the scans; give no others")
        scans = scans_of_list(source.list_file, channels=channels)
        _prepare_results_folder(source.list_file, output)
        if source.is_table:
            return _Found(scans, by_case=True)
        return _Found(scans, root=common_folder(scans))
    if not paths:
        raise click.UsageError("name the scans: files, one folder, or --list FILE")
    if source.pattern is not None:
        if len(paths) > 1 or not paths[0].is_dir():
            raise click.UsageError("--recursive takes one folder")
        scans = scans_below(paths[0], source.pattern, channels=channels)
        _prepare_results_folder(paths[0], output)
        return _Found(scans, paths[0], paths[0])
    if any(path.is_dir() and not is_series(path) for path in paths):
        # This refuses a folder without scans before the usage.
        scans = group_scans(paths, channels=channels)
        _prepare_results_folder(paths[0], output)
        return _Found(scans, paths[0])
    if output is not None and not output.suffix and any(path.is_dir() for path in paths):
        output.mkdir(exist_ok=True)
    into_folder = output is not None and output.is_dir()
    return _Found(group_scans(paths, channels=channels, into_folder=into_folder))


def _without_results(scans: list[ScanCase], output: Path, folder: Path) -> list[ScanCase]:
    """Leave out results of an earlier run among a folder's scans, by their place or their name."""
    results, top = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    if results == top:
        return [scan for scan in scans if not scan.name.endswith(RESULT_NAME)]
    if not results.is_relative_to(top):
        return scans

    @functools.cache
    def holds_results(parent: str) -> bool:
        return Path(os.path.realpath(parent)).is_relative_to(results)

    return [scan for scan in scans if not holds_results(os.path.dirname(scan.files[0]))]


def _prepare_results_folder(scans: Path, output: Path | None) -> None:
    if output is None or (not output.is_dir() and output.name.lower().endswith(RESULT_SUFFIXES)):
        raise click.UsageError(f"the scans of folder {scans} need a folder for results: -o OUT")
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"-o {output} is a file; the scans of folder {scans} need a folder")
    output.mkdir(exist_ok=True)


def _case(scan: ScanCase, label_map: Path, wanted: Wanted) -> Case:
    is_dicom = label_map.suffix.lower() == DICOM_SUFFIX
    if not is_dicom and (wanted.dicom_report or wanted.segmentation_type):
        option = "--dicom-report" if wanted.dicom_report else "--segmentation-type"
        raise click.UsageError(
            f"{option} is for DICOM segmentations, and {label_map} is none; give -o OUT.dcm"
        )
    return Case(
        scan.files,
        label_map,
        preview=_beside(label_map, ".png") if wanted.preview else None,
        statistics=_beside(label_map, ".json") if wanted.statistics else None,
        report=_report(label_map, wanted.report),
        probabilities=tuple(
            (label, _beside(label_map, f"_prob-{_plain(label)}{label_map_suffix(label_map)}"))
            for label in wanted.probabilities
        ),
        refusal=scan.refusal,
        segmentation_type=(wanted.segmentation_type or "binary") if is_dicom else None,
        dicom_report=_beside(label_map, "_volumes.dcm") if wanted.dicom_report else None,
    )


def _naming(
    found: _Found, output: Path | None, count: int, result_names: ResultNames | None
) -> Callable[[ScanCase], Path]:
    """Return the function that names the label map of a scan."""
    style = _style(found, output, result_names)

    def name(scan: ScanCase) -> str:
        file = scan.files[0]
        suffix = DICOM_SUFFIX if _is_dicom(file) else label_map_suffix(file)
        stem = scan.name if found.by_case or style == "nnunet" else scan_name(file)
        return f"{stem}{'' if style == 'nnunet' else RESULT_NAME}{suffix}"

    if output is None:
        return lambda scan: scan.files[0].with_name(name(scan))
    if output.is_dir():
        root = found.root
        if root is None:
            return lambda scan: output / name(scan)
        return lambda scan: output / os.path.relpath(scan.files[0].parent, root) / name(scan)
    if count > 1:
        raise click.UsageError(f"-o {output} is no folder, and there are {count} scans")
    if not output.name.lower().endswith(RESULT_SUFFIXES):
        raise click.UsageError(
            f"-o {output} must end in {', '.join(RESULT_SUFFIXES)}, or be an existing folder"
        )
    return lambda scan: output


def _style(found: _Found, output: Path | None, result_names: ResultNames | None) -> ResultNames:
    elsewhere = output is not None and output.is_dir()
    if elsewhere and output is not None and found.folder is not None:
        elsewhere = os.path.realpath(output) != os.path.realpath(found.folder)
    if result_names == "nnunet" and not elsewhere:
        raise click.UsageError(
            "--result-names nnunet names results as scans may be named; give another folder by -o"
        )
    numbered = found.folder is not None and elsewhere and are_numbered(found.scans)
    return result_names or ("nnunet" if numbered else "seg")


def _is_dicom(scan: Path) -> bool:
    """Tell if a scan is a folder of DICOM files, or one such file."""
    try:
        return os.path.isdir(scan) or (not scan_suffix(scan) and open_file(scan) is not None)
    except OSError:
        return False


def _check_report(report: Path | None, count: int) -> None:
    if report is None or report.is_dir():
        return
    if count > 1:
        raise click.UsageError(f"--report {report} is no folder, and there are {count} scans")
    if report.suffix.lower() != ".html":
        raise click.UsageError(f"--report {report} must end in .html, or be an existing folder")


def _report(label_map: Path, wanted: Path | None) -> Path | None:
    if wanted is None or not wanted.is_dir():
        return wanted
    return wanted / _beside(label_map, ".html").name


def _plain(label: str) -> str:
    """Return a label's name in a form fit for file names."""
    return re.sub(r"[^\w.-]+", "-", label)


def _beside(label_map: Path, suffix: str) -> Path:
    return label_map.with_name(scan_name(label_map) + suffix)
