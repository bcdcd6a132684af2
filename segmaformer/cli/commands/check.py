"""``sgmf check``: report problems and oddities of scans."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import click

from segmaformer.cli.console import print_json, print_line, progress_bar
from segmaformer.cli.exit_codes import DONE, REFUSED
from segmaformer.cli.package_parameters import PACKAGE_FOLDER, open_package, trust_options
from segmaformer.cli.parameters import (
    SCAN_PATH,
    json_option,
    memory_budget_option,
    nan_to_option,
    where_option,
)
from segmaformer.cli.scan_groups import group_scans
from segmaformer.runtime.checks.scan import check_scan
from segmaformer.runtime.scans.finding import LEVELS, Finding
from segmaformer.runtime.system.memory import budget_bytes

_NAMED: Final = 3
"""Scans that are named below a finding that many have."""


@click.command("check")
@click.argument("scans", nargs=-1, required=True, type=SCAN_PATH)
@click.option(
    "-m",
    "--model",
    envvar="SGMF_MODEL",
    type=PACKAGE_FOLDER,
    help="Package to check the scans against, or the name of a model. Default: the environment "
    "variable SGMF_MODEL.",
)
@memory_budget_option
@nan_to_option
@where_option
@trust_options
@json_option
def command(
    scans: tuple[Path, ...],
    model: Path | None,
    memory_budget: int | None,
    nan_to: float | None,
    where: tuple[str, ...],
    as_json: bool,
) -> int:
    """Report what is wrong or odd about SCANS, and how to fix it.

    Levels: refuse (the scan cannot be segmented; exit code 3), warn (the result may be wrong),
    note. SCANS are given as for `sgmf infer`; without a package each file is one scan, and each
    folder of DICOM files. A scan that does not fit the memory budget is refused.
    """
    manifest = None if model is None else open_package(model).manifest
    channels = 1 if manifest is None else len(manifest.preprocessing.channels)
    found: list[tuple[tuple[Path, ...], list[Finding]]] = []
    groups = list(group_scans(scans, channels=channels))
    with progress_bar("sgmf check") as progress:
        for index, scan in enumerate(groups):
            progress("scans", index, len(groups))
            findings = (
                check_scan(
                    scan.files,
                    manifest,
                    nan_to=nan_to,
                    budget_bytes=budget_bytes(memory_budget),
                    where=where,
                )
                if scan.refusal is None
                else [Finding("refuse", scan.refusal, "Correct these files, or leave them out.")]
            )
            found.append((tuple(scan.files), findings))
    if as_json:
        print_json({"results": [_document(files, findings) for files, findings in found]})
    else:
        _print_findings([(files[0], _nameless(files, findings)) for files, findings in found])
    refused = any(f.level == "refuse" for _, findings in found for f in findings)
    return REFUSED if refused else DONE


def _document(files: tuple[Path, ...], findings: list[Finding]) -> dict[str, Any]:
    entries = [dataclasses.asdict(finding) for finding in findings]
    return {"scan": [str(path) for path in files], "findings": entries}


def _nameless(files: tuple[Path, ...], findings: list[Finding]) -> list[Finding]:
    """Write findings without the names of a scan's own files, so that scans can share them."""
    nameless = []
    for finding in findings:
        what = finding.what
        for path in map(str, files):
            what = what.removeprefix(f"{path}: ").replace(path, "the file")
        nameless.append(dataclasses.replace(finding, what=what))
    return nameless


def _print_findings(found: list[tuple[Path, list[Finding]]]) -> None:
    """Print every finding once, the gravest first, with the scans that have it."""
    scans: dict[Finding, list[Path]] = {}
    for scan, findings in found:
        for finding in findings:
            scans.setdefault(finding, []).append(scan)
    for finding in sorted(scans, key=lambda finding: LEVELS.index(finding.level)):
        print_line(f"{finding.level}{_in(scans[finding])}: {finding.what}")
        print_line(f"  {finding.fix}")
        print_line(f"  {_named(scans[finding])}")
    if fine := [scan for scan, findings in found if not findings]:
        print_line(f"nothing odd{_in(fine)}: {_named(fine)}")


def _in(scans: list[Path]) -> str:
    return f" in {len(scans)} scans" if len(scans) > 1 else ""


def _named(scans: list[Path]) -> str:
    names = ", ".join(map(str, scans[:_NAMED]))
    more = len(scans) - _NAMED
    return names if more <= 0 else f"{names} and {more} more (--json names all)"
