"""``sgmf check``: report problems and oddities of scans."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import print_json, print_line
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
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.system.memory import budget_bytes


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
    results: list[dict[str, Any]] = []
    for scan in group_scans(scans, channels=channels):
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
        entries = [dataclasses.asdict(finding) for finding in findings]
        results.append({"scan": [str(path) for path in scan.files], "findings": entries})
        if not as_json:
            _print_findings(scan.files[0], findings)
    if as_json:
        print_json({"results": results})
    levels = {finding["level"] for result in results for finding in result["findings"]}
    return REFUSED if "refuse" in levels else DONE


def _print_findings(scan: Path, findings: list[Finding]) -> None:
    print_line(f"{scan}:" if findings else f"{scan}: nothing odd")
    for finding in findings:
        print_line(f"  {finding.level}: {finding.what}")
        print_line(f"    {finding.fix}")
