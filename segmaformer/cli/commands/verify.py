"""``sgmf verify``: compare a package's results on this machine with its reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from segmaformer.calibration.verification.compare import Choice, verify_cases, verify_tile
from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import print_json, print_line, print_rows, progress_bar, say
from segmaformer.cli.exit_codes import DONE, REFUSED, UNVERIFIED
from segmaformer.cli.package_parameters import PACKAGE_FOLDER, open_package, trust_options
from segmaformer.cli.parameters import (
    EXISTING_FOLDER,
    check_variants,
    device_option,
    json_option,
    require_scans,
    scan_options,
    threads_option,
    variants_option,
)
from segmaformer.cli.provenance import provenance
from segmaformer.cli.verify_layers import compare, layers_backend, print_layers
from segmaformer.runtime.backends import BackendOptions, Device, backend_names, find_backend
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.scans.channels import ScanCase, group_channels
from segmaformer.runtime.system.atomic import atomic_file


@click.command("verify")
@click.argument("model", metavar="PACKAGE", type=PACKAGE_FOLDER)
@click.option(
    "--data",
    type=EXISTING_FOLDER,
    help="Folder of scans to compare on. Default: one phantom tile.",
)
@click.option(
    "--labels",
    type=EXISTING_FOLDER,
    help="Folder of reference label maps, named like the scans.",
)
@click.option(
    "--backend",
    "backends",
    type=NamedChoice(backend_names()),
    multiple=True,
    default=("auto",),
    show_default=True,
    help="Backend to compare; repeat for several.",
)
@device_option
@variants_option
@scan_options
@threads_option
@click.option("--layers", is_flag=True, help="Compare every layer with fp32 on the CPU.")
@click.option("--record", is_flag=True, help="Write the result to PACKAGE.verification.json.")
@trust_options
@json_option
def command(
    model: Path,
    data: Path | None,
    labels: Path | None,
    backends: tuple[str, ...],
    device: Device | None,
    variants: tuple[str, ...],
    reading: ScanOptions,
    threads: int | None,
    layers: bool,
    record: bool,
    as_json: bool,
) -> int:
    """Compare the variants of PACKAGE with PyTorch's result at export, or with fp32 on scans.

    --data is a folder laid out as for `sgmf infer`. Exit code 4: a variant falls short; 3: a scan
    was refused.
    """
    package = open_package(model)
    if data is None and labels is not None:
        raise click.UsageError("--labels needs the scans: --data DIR")
    if data is None:
        require_scans(reading, "--data DIR")
    if layers and data is not None and package.manifest.previous_stage is not None:
        raise click.UsageError("--layers compares a cascade on a phantom: leave --data out")
    seen_into = layers_backend(backends, device) if layers else None
    choices = _choices(package, backends, device, variants)
    options = BackendOptions(threads=threads, device=device)
    if data is None:
        result, case = verify_tile(package, choices, options=options, report=say), None
    else:
        result, case = _on_scans(package, choices, data, labels, reading, options)
    if seen_into is not None and (data is None or case is not None):
        result["layers"] = compare(
            package, seen_into, choices, case=case, reading=reading, threads=threads
        )
    document = {**provenance(package), **result}
    if record:
        _write_record(package, document)
    (print_json if as_json else _print_result)(document)
    return _conclude(document)


def _on_scans(
    package: Package,
    choices: Sequence[Choice],
    data: Path,
    labels: Path | None,
    reading: ScanOptions,
    options: BackendOptions,
) -> tuple[dict[str, Any], ScanCase | None]:
    """Compare on the scans of a folder; the result, and the first scan that could be used."""
    cases = group_channels(data, channels=len(package.manifest.preprocessing.channels))
    with progress_bar(package.manifest.name) as show:
        result = verify_cases(
            package,
            choices,
            cases,
            labels=labels,
            reading=reading,
            options=options,
            progress=show,
            report=say,
        )
    return result, next((case for case in cases if case.name in result["cases"]), None)


def _choices(
    package: Package, backends: Sequence[str], device: Device | None, variants: Sequence[str]
) -> list[Choice]:
    known = package.manifest.variants
    check_variants(package.manifest, variants)
    try:
        for backend in backends:
            find_backend(backend, device)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    pairs = [Choice(variant, backend) for backend in backends for variant in variants or known]
    return list(dict.fromkeys(pairs))


def _write_record(package: Package, document: dict[str, Any]) -> None:
    folder = package.path.resolve()
    with atomic_file(folder.with_name(f"{folder.name}.verification.json")) as stream:
        stream.write(json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")


def _conclude(document: dict[str, Any]) -> int:
    """Report what falls short; return the exit code."""
    short = [run for run in document["runs"] if run["shortcomings"]]
    for run in short:
        say(f"sgmf: {run['variant']} on {run['backend']}: {'; '.join(run['shortcomings'])}")
    if short:
        return UNVERIFIED
    return REFUSED if document.get("refused") else DONE


def _print_result(document: dict[str, Any]) -> None:
    print_line(f"reference: {document['reference']}")
    print_rows([_agreement_row(run) for run in document["runs"]])
    rows = [
        (run["variant"], name, *map(_shown, _figures(means)), run["backend"])
        for run in document["runs"]
        for name, means in run.get("structures", {}).items()
    ]
    if rows:
        head = ("variant", "structure", "Dice", "HD95 mm", "volume error %", "change of Dice")
        print_line(f"means over {len(document['cases'])} cases [{document['confidence']}]")
        print_rows([(*head, "backend"), *rows])
    for variant, layers in document.get("layers", {}).items():
        print_layers(variant, layers)


def _agreement_row(run: dict[str, Any]) -> tuple[str, ...]:
    dice = run.get("dice", run.get("dice_with_reference", {}))
    error = f"logits within {run['relative_error']:.1e}, " if "relative_error" in run else ""
    fate = "falls short" if run["shortcomings"] else "ok" if run.get("judged", True) else "-"
    agreement = f"{run['label_agreement']:.4%} of labels equal"
    lowest = f"lowest Dice {min(dice.values()):.5f}"
    variant = run["variant"] if "stage" not in run else f"{run['variant']}, {run['stage']}"
    return fate, variant, f"{error}{agreement}, {lowest}", run["backend"]


def _figures(means: dict[str, Any]) -> list[tuple[dict[str, Any] | None, str]]:
    formats = {
        "dice": ".4f",
        "hd95_mm": ".2f",
        "volume_error_percent": "+.2f",
        "dice_change": "+.5f",
    }
    return [(means[key], digits) for key, digits in formats.items()]


def _shown(figure: tuple[dict[str, Any] | None, str]) -> str:
    mean, digits = figure
    if mean is None:
        return "-"
    if mean["low"] is None:
        return format(mean["value"], digits)
    return f"{mean['value']:{digits}} [{mean['low']:{digits}}, {mean['high']:{digits}}]"
