"""``sgmf infer``: scans -> label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segmaformer.cli.cases import Case, group_cases
from segmaformer.cli.console import print_json, print_path, progress_bar, say
from segmaformer.cli.exit_codes import DONE, EXPECTED_ERRORS, REFUSED, exit_code, message_of
from segmaformer.cli.parameters import EXISTING_FILE
from segmaformer.cli.segment_case import segment_case
from segmaformer.runtime.backends import BackendOptions, backend_names
from segmaformer.runtime.manifest import Manifest
from segmaformer.runtime.package import Package
from segmaformer.runtime.predictor import Predictor


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
@click.option(
    "--memory-budget",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="For the scan, its logits and labels; default: half of the free memory.",
)
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
    memory_budget: int | None,
    preview: bool,
    stats: bool,
    as_json: bool,
) -> int:
    """Segment SCANS with a package.

    A package with several channels takes that many files for each scan, in its order.
    Label maps lie on the scan's own grid.
    """
    package = Package.open(model)
    _check_options(package.manifest, variant, tta)
    channels = len(package.manifest.preprocessing.channels)
    cases = group_cases(scans, channels=channels, output=output, preview=preview, statistics=stats)
    predictor = Predictor(
        package,
        backend,
        variant=variant,
        tta=tta,
        memory_budget_mib=memory_budget,
        options=BackendOptions(threads=threads),
    )
    say(f"{package.manifest.name}: {predictor.backend}")
    results = [_run(predictor, case, print_results=not as_json) for case in cases]
    if as_json:
        print_json({"model": str(model), "results": results})
    codes = {result["exit_code"] for result in results}
    return REFUSED if REFUSED in codes else max(codes)


def _check_options(manifest: Manifest, variant: str | None, tta: bool) -> None:
    if variant is not None and variant not in manifest.variants:
        known = ", ".join(manifest.variants)
        raise click.UsageError(f"{manifest.name} has no variant {variant!r}; it has {known}")
    if tta and not manifest.tiling.mirror_axes:
        say(f"{manifest.name} allows no mirroring, so --tta changes nothing")


def _run(predictor: Predictor, case: Case, *, print_results: bool) -> dict[str, Any]:
    """Segment one scan; an error becomes part of the result, so that a batch goes on."""
    try:
        with progress_bar(case.scan[0].name) as progress:
            document = segment_case(predictor, case, progress)
    except EXPECTED_ERRORS as error:
        return _failure(case, error)
    if print_results:
        for path in case.results:
            print_path(path)
    return {**document, "exit_code": DONE}


def _failure(case: Case, error: BaseException) -> dict[str, Any]:
    message, name = message_of(error), str(case.scan[0])
    say(f"sgmf: {message}" if name in message else f"sgmf: {name}: {message}")
    scan = [str(path) for path in case.scan]
    return {"scan": scan, "error": message, "exit_code": exit_code(error)}
