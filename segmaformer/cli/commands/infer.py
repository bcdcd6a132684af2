"""``sgmf infer``: segment scans with a package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from segmaformer.cli.bare_options import BareOption, CommandWithBareOptions
from segmaformer.cli.cases import Case, ResultNames, Wanted, group_cases
from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.cohort.batch import (
    FEWEST_FOR_WORKERS,
    MOST_WORKERS,
    segment_here,
    segment_in_workers,
)
from segmaformer.cli.cohort.host import RAY_HERE, Host
from segmaformer.cli.cohort.worker import Ready
from segmaformer.cli.console import (
    print_failures,
    print_json,
    print_json_line,
    print_path,
    say,
)
from segmaformer.cli.dicom_results import (
    check_dicom_results,
    dicom_report_option,
    segmentation_type_option,
    tell_of_frames,
)
from segmaformer.cli.exit_codes import DONE
from segmaformer.cli.package_parameters import models_option, open_package, trust_options
from segmaformer.cli.parameters import (
    EXISTING_FILE,
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
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.cli.resume import Resume, divide_done, resume_option
from segmaformer.cli.scan_sources import Source
from segmaformer.cli.summary import batch_exit_code, write_summary
from segmaformer.runtime.backends import Device, find_backend
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.probabilities import label_channel
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.results.dicom.segments import SegmentationType

SayResult = Callable[[Case, dict[str, Any]], None]


@click.command("infer", cls=CommandWithBareOptions)
@click.argument("scans", nargs=-1, type=SCAN_PATH)
@models_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Label map to write, or an existing folder. Default: SCAN_seg.nii.gz beside the scan, "
    "SCAN_seg.dcm (a DICOM segmentation) for DICOM.",
)
@click.option(
    "--list",
    "list_file",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Segment the scans that FILE lists: a path a line, or a CSV of cases and their channels.",
)
@click.option(
    "--recursive",
    "pattern",
    cls=BareOption,
    bare="*",
    metavar="[=GLOB]",
    help="Take the scans in all folders below the given one, such as =*_T1w.nii.gz; the results "
    "lie in the same folders below -o OUT.",
)
@click.option(
    "--result-names",
    type=NamedChoice(get_args(ResultNames)),
    help="Names of label maps: seg for NAME_seg.nii.gz, nnunet for CASE.nii.gz. Default: nnunet "
    "for a folder whose files are all named CASE_0000 and so on, seg otherwise.",
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
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    metavar="N",
    help="Processes that share the scans, and the threads and memory. Default for 8 scans and "
    "more: one for each processor, as far as scans and memory allow.",
)
@click.option(
    "--ray",
    "ray_address",
    cls=BareOption,
    bare=RAY_HERE,
    metavar="[=ADDRESS]",
    help="Share the scans among actors of Ray: on this machine, or with =auto or =HOST:PORT on the "
    "nodes of its cluster. --workers is then the number of actors.",
)
@trust_options
@json_option
@click.option(
    "--ndjson",
    is_flag=True,
    help="Print the result of each scan as a line of JSON when it is known.",
)
def command(
    scans: tuple[Path, ...],
    models: tuple[Path, ...],
    output: Path | None,
    list_file: Path | None,
    pattern: str | None,
    result_names: ResultNames | None,
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
    workers: int | None,
    ray_address: str | None,
    as_json: bool,
    ndjson: bool,
) -> int:
    """Segment SCANS: files, or one folder with -o OUT.

    A package with several channels takes that many files for each scan, in the package's order, or
    files that hold several channels; in a folder, CASE_0000, CASE_0001 ... are the channels of
    CASE. A folder of DICOM files is one scan or one channel, also if it lies in a folder of scans.
    Label maps lie on the scan's own grid. A .run.json beside each records how it was made.
    """
    if as_json and ndjson:
        raise click.UsageError("--json is one document and --ndjson a line for each scan; take one")
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
    grouped = group_cases(
        scans,
        channels=channels,
        output=output,
        wanted=wanted,
        package=models[0],
        source=Source(list_file, pattern),
        result_names=result_names,
    )
    cases = _part(grouped, shard)
    check_dicom_results(package.manifest, cases)
    options = PredictorOptions(
        models=tuple((each.path, each.manifest_sha256) for each in packages),
        backend=backend,
        device=device,
        variant=variant,
        tta=tta,
        threads=threads,
        memory_budget_mib=memory_budget,
        reading=reading,
        postprocessing=not no_postprocessing,
    )
    say_result = _printer(as_json=as_json, as_lines=ndjson)
    batch = _Batch(cases, packages, options, resume, workers, ray_address, names)
    ordered = _segment(batch, say_result)
    tell_of_frames(package.manifest, cases, ordered)
    summary = {"model": " + ".join(map(str, models)), "results": ordered}
    if as_json:
        print_json(summary)
    if len(cases) > 1 or any(result.get("skipped") for result in ordered):
        print_failures(ordered)
    if output is not None and output.is_dir() and (list_file or scans[0].is_dir()):
        part = "" if shard is None else f"-{shard[0]}-of-{shard[1]}"
        write_summary(output / f"summary{part}.json", summary)
    return batch_exit_code(ordered)


@dataclass(frozen=True)
class _Batch:
    """Scans to segment, and how; `names` shows their file names in previews and reports."""

    cases: Sequence[Case]
    packages: Sequence[Package]
    options: PredictorOptions
    resume: Resume | None
    workers: int | None
    ray_address: str | None
    names: bool

    def host(self) -> AbstractContextManager[Host]:
        """Open the place where workers run."""
        if self.ray_address is None:
            from segmaformer.cli.cohort.processes import ProcessHost

            return nullcontext(ProcessHost(self.options.threads or available_processors()))
        from segmaformer.cli.cohort.ray_host import open_ray_host

        return open_ray_host(self.ray_address, self.packages, self.cases, self.options.threads)


def _segment(batch: _Batch, say_result: SayResult) -> list[dict[str, Any]]:
    """Segment the cases that are left, and return the results of all in their order."""
    results: dict[str, dict[str, Any]] = {}

    def take(case: Case, result: dict[str, Any]) -> None:
        results[str(case.label_map)] = result
        say_result(case, result)

    def divide(ready: Ready) -> list[Case]:
        say(f"{' + '.join(each.manifest.name for each in batch.packages)}: {ready.backend}")
        done, left = divide_done(
            batch.cases,
            batch.resume,
            backend=ready.backend,
            settings=ready.settings,
            any_backend=batch.options.backend == "auto",  # which another node decides otherwise
        )
        for case in done:
            take(case, {"scan": [str(path) for path in case.scan], "skipped": True})
        return left

    workers = batch.workers
    if batch.resume == "strict":
        workers = workers or 1  # so that all scans have the same threads
    few = workers is None and len(batch.cases) < FEWEST_FOR_WORKERS
    if few and batch.ray_address is None:
        here = segment_here(batch.options, batch.packages, divide, names=batch.names)
        for case, result in here:
            take(case, result)
    else:
        with (
            batch.host() as host,
            closing(
                segment_in_workers(host, batch.options, workers, divide, names=batch.names)
            ) as found,
        ):
            for case, result in found:
                take(case, result)
    return [results[str(case.label_map)] for case in batch.cases]


def _printer(*, as_json: bool, as_lines: bool) -> SayResult:
    """Return the function that tells the outcome of a scan when it is known."""

    def say_result(case: Case, result: dict[str, Any]) -> None:
        if "error" in result:
            message, name = result["error"], str(case.scan[0])
            say(f"sgmf: {message}" if name in message else f"sgmf: {name}: {message}")
        if as_lines:
            print_json_line(result)
        elif not as_json and result.get("exit_code") == DONE:
            for path in case.results:
                print_path(path)

    return say_result


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
