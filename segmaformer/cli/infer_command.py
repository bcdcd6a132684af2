"""``sgmf infer``: scans -> label maps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.main import EXPECTED_ERRORS, REFUSED, exit_code, message_of
from segmaformer.cli.parameters import EXISTING_FILE
from segmaformer.runtime.atomic import atomic_path
from segmaformer.runtime.backends import BackendOptions, backend_names
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package import Package
from segmaformer.runtime.predictor import Predictor, Progress
from segmaformer.runtime.segmentation import Segmentation

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """The files of one scan and where its label map goes."""

    scan: tuple[Path, ...]
    output: Path

    def beside(self, suffix: str) -> Path:
        """A file of the same name as the label map with another suffix."""
        return self.output.with_name(stem(self.output) + suffix)


@dataclass(frozen=True)
class Extras:
    """What to write beside the label map."""

    preview: bool
    stats: bool


@click.command("infer")
@click.argument("scans", nargs=-1, required=True, type=EXISTING_FILE)
@click.option(
    "-m",
    "--model",
    required=True,
    envvar="SGMF_MODEL",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Package; may come from SGMF_MODEL.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Label map to write, or an existing folder. Default: SCAN_seg.nii.gz beside the scan.",
)
@click.option("--backend", type=click.Choice(backend_names()), default="auto", show_default=True)
@click.option("--variant", help="fp32, fp16 ...; default: what suits the backend.")
@click.option("--tta", is_flag=True, help="Average over the mirrored axes that the package allows.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: all processors.")
@click.option("--preview", is_flag=True, help="Write a PNG of three planes beside the label map.")
@click.option("--stats", is_flag=True, help="Write volumes and intensities as JSON beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(
    scans: tuple[Path, ...],
    model: Path,
    output: Path | None,
    backend: str,
    variant: str | None,
    tta: bool,
    threads: int | None,
    preview: bool,
    stats: bool,
    as_json: bool,
) -> int:
    """Segment SCANS with a package.

    A package with several channels takes that many files for each scan, in its order.
    Label maps lie on the scan's own grid.
    """
    package = Package.open(model)
    if variant is not None and variant not in package.manifest.variants:
        known = ", ".join(package.manifest.variants)
        raise click.UsageError(f"{model} has no variant {variant!r}; it has {known}")
    cases = group_cases(scans, len(package.manifest.preprocessing.channels), output)
    predictor = Predictor(
        package, backend, variant=variant, tta=tta, options=BackendOptions(threads=threads)
    )
    click.echo(f"{package.manifest.name}: {predictor.backend}", err=True)
    results = [_run_case(predictor, case, Extras(preview, stats), as_json) for case in cases]
    if as_json:
        click.echo(json.dumps({"model": str(model), "results": results}, indent=2))
    codes = {result["exit_code"] for result in results}
    return REFUSED if REFUSED in codes else max(codes)


def group_cases(scans: tuple[Path, ...], channels: int, output: Path | None) -> list[Case]:
    """Divide the files into scans and name their outputs.

    Raises
    ------
    click.UsageError
        Files and channels do not fit, or an output would replace a scan or another output.
    InputError
        One scan was given with the wrong number of channels.
    """
    if len(scans) % channels:
        raise InputError(
            f"the package takes {channels} channels, so files come in groups of {channels}; "
            f"{len(scans)} were given"
        )
    groups = [scans[start : start + channels] for start in range(0, len(scans), channels)]
    cases = [Case(group, _output_path(group[0], output, len(groups))) for group in groups]
    targets = [case.output.resolve() for case in cases]
    if len(set(targets)) < len(targets):
        raise click.UsageError("two scans would write the same label map; run them one by one")
    if set(targets) & {scan.resolve() for scan in scans}:
        raise click.UsageError("the label map would replace a scan; choose another name with -o")
    return cases


def _output_path(scan: Path, output: Path | None, count: int) -> Path:
    name = f"{stem(scan)}_seg.nii.gz"
    if output is None:
        return scan.with_name(name)
    if output.is_dir():
        return output / name
    if count > 1:
        raise click.UsageError(f"-o {output} is no folder, and there are {count} scans")
    if not output.name.endswith(SUFFIXES):
        raise click.UsageError(f"-o {output} must end in {' or '.join(SUFFIXES)}, or be a folder")
    return output


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.stem


def _run_case(predictor: Predictor, case: Case, extras: Extras, as_json: bool) -> dict[str, Any]:
    """Segment one scan; an error becomes part of the result, so that a batch goes on."""
    result: dict[str, Any] = {"scan": [str(path) for path in case.scan], "exit_code": 0}
    try:
        # Reserving the name first tells of a folder that cannot be written to before the work.
        with progress_bar() as progress, atomic_path(case.output) as reserved:
            segmentation = predictor.predict(case.scan, progress=progress)
            segmentation.save(reserved)
        result.update(write_results(segmentation, case, extras))
    except EXPECTED_ERRORS as error:
        result.update(exit_code=exit_code(error), error=message_of(error))
        click.echo(f"sgmf: {case.scan[0]}: {message_of(error)}", err=True)
        return result
    if not as_json:
        for key in ("output", "preview", "stats"):
            if key in result:
                click.echo(result[key])
    return result


def write_results(segmentation: Segmentation, case: Case, extras: Extras) -> dict[str, Any]:
    """Write what was asked for beside the label map and describe it."""
    statistics = segmentation.statistics()
    document: dict[str, Any] = {
        "output": str(case.output),
        "package": segmentation.manifest.name,
        "backend": segmentation.backend,
        "seconds": segmentation.seconds,
        "statistics": statistics,
    }
    if extras.preview:
        document["preview"] = str(case.beside(".png"))
        segmentation.save_preview(case.beside(".png"))
    if extras.stats:
        document["stats"] = str(case.beside(".json"))
        with atomic_path(case.beside(".json")) as path:
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress bar on stderr where that is a terminal; nothing elsewhere."""
    bar: Any = None

    def show(stage: str, done: int, count: int) -> None:
        nonlocal bar
        if bar is None and sys.stderr.isatty():
            bar = click.progressbar(length=count, label=stage, file=sys.stderr)
            bar.__enter__()
        if bar is not None:
            bar.update(done - bar.pos)

    try:
        yield show
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
