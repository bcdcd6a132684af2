"""``sgmf infer``: segment scans with a package."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.bare_options import CommandWithBareOptions
from segmaformer.cli.cases import Case, Wanted, group_cases
from segmaformer.cli.console import print_failures, print_json, print_path, progress_bar, say
from segmaformer.cli.dicom_results import (
    check_dicom_results,
    dicom_report_option,
    segmentation_type_option,
    tell_of_frames,
)
from segmaformer.cli.exit_codes import DONE, REFUSED, exit_code, message_of
from segmaformer.cli.package_parameters import models_option, open_package, trust_options
from segmaformer.cli.parameters import (
    SCAN_PATH,
    backend_option,
    check_variants,
    device_option,
    json_option,
    memory_budget_option,
    parse_shard,
    scan_options,
    threads_option,
)
from segmaformer.cli.resume import Resume, divide_done, resume_option
from segmaformer.cli.segment_case import segment_cases
from segmaformer.runtime.backends import BackendOptions, Device, find_backend
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.probabilities import label_channel
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.results.dicom.segmentation_object import SegmentationType
from segmaformer.runtime.system.atomic import atomic_file


@click.command("infer", cls=CommandWithBareOptions)
@click.argument("scans", nargs=-1, required=True, type=SCAN_PATH)
@models_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Label map to write, or an existing folder. Default: SCAN_seg.nii.gz beside the scan, "
    "SCAN_seg.dcm (a DICOM segmentation) for DICOM.",
)
@segmentation_type_option
@dicom_report_option
@backend_option
@device_option
@click.option(
    "--variant", help="Variant to run, such as fp32 or fp16. Default: the backend's preferred one."
)
@click.option(
    "--tta", is_flag=True, help="Average over mirrored copies, along the axes the package allows."
)
@threads_option
@memory_budget_option
@click.option("--preview", is_flag=True, help="Write a PNG of three planes beside the label map.")
@click.option(
    "--stats",
    is_flag=True,
    help="Write each label's volume and intensities as JSON beside the label map.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="OUT.html",
    help="HTML page with the scan and its labels; an existing folder for several scans.",
)
@click.option("--names", is_flag=True, help="Show the scans' file names in preview and report.")
@click.option(
    "--probabilities",
    multiple=True,
    metavar="LABEL",
    help="Label whose probability map to write too; repeat for several.",
)
@scan_options
@click.option(
    "--no-postprocessing",
    is_flag=True,
    help="Write the labels of the network, without the package's postprocessing.",
)
@resume_option
@click.option(
    "--shard",
    callback=parse_shard,
    metavar="I/N",
    help="Segment only part I of N: every N-th scan, starting at the I-th.",
)
@trust_options
@json_option
def command(
    scans: tuple[Path, ...],
    models: tuple[Path, ...],
    output: Path | None,
    segmentation_type: SegmentationType | None,
    dicom_report: bool,
    backend: str,
    device: Device | None,
    variant: str | None,
    tta: bool,
    threads: int | None,
    memory_budget: int | None,
    preview: bool,
    stats: bool,
    report: Path | None,
    names: bool,
    probabilities: tuple[str, ...],
    reading: ScanOptions,
    no_postprocessing: bool,
    resume: Resume | None,
    shard: tuple[int, int] | None,
    as_json: bool,
) -> int:
    """Segment SCANS: files, or one folder with -o OUT.

    A package with several channels takes that many files for each scan, in the package's order, or
    files that hold several channels; in a folder, CASE_0000, CASE_0001 ... are the channels of
    CASE. A folder of DICOM files is one scan or one channel, also if it lies in a folder of scans.
    Label maps lie on the scan's own grid. A .run.json beside each records how it was made.
    """
    packages = [open_package(model) for model in models]
    package = packages[0]
    _check_backend(backend, device)
    for each in packages:
        _check_options(each.manifest, variant, tta, probabilities)
    wanted = Wanted(
        preview=preview,
        statistics=stats,
        report=report,
        probabilities=probabilities,
        segmentation_type=segmentation_type,
        dicom_report=dicom_report,
    )
    channels = len(package.manifest.preprocessing.channels)
    grouped = group_cases(scans, channels=channels, output=output, wanted=wanted, package=models[0])
    cases = _part(grouped, shard)
    check_dicom_results(package.manifest, cases)
    predictor = _open(
        packages,
        backend,
        variant=variant,
        tta=tta,
        memory_budget_mib=memory_budget,
        **dataclasses.asdict(reading),
        postprocessing=not no_postprocessing,
        options=BackendOptions(threads=threads, device=device),
        report=say,
    )
    title = " + ".join(each.manifest.name for each in packages)
    say(f"{title}: {predictor.backend}")
    done, left = divide_done(predictor, cases, resume)
    results = [_skipped(case) for case in done]
    results += _segment(predictor, left, names=names, print_results=not as_json)
    tell_of_frames(package.manifest, cases, results)
    summary = {"model": " + ".join(map(str, models)), "results": results}
    if as_json:
        print_json(summary)
    if len(cases) > 1 or done:
        print_failures(results)
    if output is not None and output.is_dir() and scans[0].is_dir():
        _write_summary(output, shard, summary)
    return _conclude(results)


def _open(packages: Sequence[Package], backend: str, **options: Any) -> Predictor | Ensemble:
    if len(packages) == 1:
        return Predictor(packages[0], backend, **options)
    return Ensemble(packages, backend, **options)


def _check_backend(backend: str, device: Device | None) -> None:
    try:
        find_backend(backend, device)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _check_options(
    manifest: Manifest, variant: str | None, tta: bool, probabilities: tuple[str, ...]
) -> None:
    check_variants(manifest, [] if variant is None else [variant])
    try:
        for label in probabilities:
            label_channel(manifest.output, label)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if tta and not manifest.tiling.mirror_axes:
        say(f"{manifest.name} allows no mirroring, so --tta changes nothing")


def _part(cases: list[Case], shard: tuple[int, int] | None) -> list[Case]:
    """Return the cases of one part of several."""
    index, count = shard or (1, 1)
    return cases[index - 1 :: count]


def _skipped(case: Case) -> dict[str, Any]:
    return {"scan": [str(path) for path in case.scan], "skipped": True}


def _segment(
    predictor: Predictor | Ensemble, cases: list[Case], *, names: bool, print_results: bool
) -> list[dict[str, Any]]:
    return [
        _result(case, outcome, print_results=print_results)
        for case, outcome in segment_cases(predictor, cases, progress_bar, say, names=names)
    ]


def _conclude(results: Sequence[dict[str, Any]]) -> int:
    """Return the exit code of a batch."""
    codes = {result.get("exit_code", DONE) for result in results}
    return REFUSED if REFUSED in codes else max(codes, default=DONE)


def _result(
    case: Case, outcome: dict[str, Any] | Exception, *, print_results: bool
) -> dict[str, Any]:
    """Return one entry of the summary; an error becomes part of it, so that a batch goes on."""
    if isinstance(outcome, Exception):
        return _failure(case, outcome)
    if print_results:
        for path in case.results:
            print_path(path)
    return {**outcome, "exit_code": DONE}


def _failure(case: Case, error: BaseException) -> dict[str, Any]:
    message, name = message_of(error), str(case.scan[0])
    say(f"sgmf: {message}" if name in message else f"sgmf: {name}: {message}")
    scan = [str(path) for path in case.scan]
    return {"scan": scan, "error": message, "exit_code": exit_code(error)}


def _write_summary(folder: Path, shard: tuple[int, int] | None, summary: dict[str, Any]) -> None:
    name = "summary.json" if shard is None else f"summary-{shard[0]}-of-{shard[1]}.json"
    with atomic_file(folder / name) as stream:
        stream.write(json.dumps(summary, indent=2).encode() + b"\n")
