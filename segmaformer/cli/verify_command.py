"""``sgmf verify``: compare what a package computes here with what it should."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from segmaformer.calibration.verification import (
    EXACT_VARIANT,
    Choice,
    verify_cases,
    verify_tile,
)
from segmaformer.cli.console import print_json, print_line, progress_bar, say
from segmaformer.cli.exit_codes import DONE, REFUSED, UNVERIFIED
from segmaformer.cli.extras import require_extra
from segmaformer.runtime.atomic import atomic_path
from segmaformer.runtime.backends import DEVICES, BackendOptions, backend_names, find_backend
from segmaformer.runtime.cases import group_channels
from segmaformer.runtime.package import MANIFEST_FILE, Package
from segmaformer.runtime.run_record import sha256_of

WORST_SHOWN = 10
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("verify")
@click.argument("model", metavar="PACKAGE", type=FOLDER)
@click.option("--data", type=FOLDER, help="Scans to compare on; without, one phantom tile.")
@click.option("--labels", type=FOLDER, help="Label maps, named as their scans.")
@click.option(
    "--backend",
    "backends",
    type=click.Choice(backend_names()),
    multiple=True,
    default=("auto",),
    show_default=True,
    help="May be given again for others.",
)
@click.option("--device", type=click.Choice(DEVICES), help="Default: what the backend is for.")
@click.option(
    "--variant", "variants", multiple=True, help="May be given again; default: all there are."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: all processors.")
@click.option("--layers", is_flag=True, help="Compare every layer with fp32's, on the CPU.")
@click.option("--record", is_flag=True, help="Write the result to PACKAGE.verification.json.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(
    model: Path,
    data: Path | None,
    labels: Path | None,
    backends: tuple[str, ...],
    device: str | None,
    variants: tuple[str, ...],
    threads: int | None,
    layers: bool,
    record: bool,
    as_json: bool,
) -> int:
    """Compare the variants of PACKAGE with PyTorch's answer at export, or on scans with fp32.

    DATA is a folder as `sgmf infer` takes it. Exit code 4 says that a variant falls short, 3
    that a scan was refused.
    """
    package = Package.open(model)
    if labels is not None and data is None:
        raise click.UsageError("--labels needs the scans: --data DIR")
    if layers:
        _check_layers(data, backends, device)
    choices = _choices(package, backends, device, variants)
    options = BackendOptions(threads=threads, device=device)
    if data is None:
        result = verify_tile(package, choices, options=options, report=say)
        if layers:
            result["layers"] = _compare_layers(package, choices, threads)
    else:
        cases = group_channels(data, channels=len(package.manifest.preprocessing.channels))
        with progress_bar(package.manifest.name) as show:
            result = verify_cases(
                package, choices, cases, labels=labels, options=options, progress=show, report=say
            )
    document = {**_provenance(package), **result}
    if record:
        _write_record(package, document)
    if as_json:
        print_json(document)
    else:
        _print_result(document)
    return _conclude(document)


def _check_layers(data: Path | None, backends: Sequence[str], device: str | None) -> None:
    if data is not None:
        raise click.UsageError("--layers compares on the phantom tile: leave out --data")
    others = [name for name in backends if name not in ("auto", "onnxruntime")]
    if others or device == "cuda":
        raise click.UsageError(
            "--layers compares in ONNX Runtime on the CPU; an engine shows no layers. NVIDIA's "
            "Polygraphy can mark them as outputs: pip install polygraphy, then polygraphy run "
            "--trt-outputs mark all"
        )
    require_extra("onnx", extra="export")


def _compare_layers(
    package: Package, choices: Sequence[Choice], threads: int | None
) -> dict[str, list[dict[str, Any]]]:
    from segmaformer.calibration.layer_comparison import compare_layers

    names = dict.fromkeys(choice.variant for choice in choices if choice.variant != EXACT_VARIANT)
    return {
        name: [each.record() for each in compare_layers(package, name, threads=threads)]
        for name in names
    }


def _choices(
    package: Package, backends: Sequence[str], device: str | None, variants: Sequence[str]
) -> list[Choice]:
    known = package.manifest.variants
    for variant in variants:
        if variant not in known:
            raise click.UsageError(
                f"{package.manifest.name} has no variant {variant!r}; it has {', '.join(known)}"
            )
    try:
        for backend in backends:
            find_backend(backend, device)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    pairs = [Choice(variant, backend) for backend in backends for variant in variants or known]
    return list(dict.fromkeys(pairs))


def _provenance(package: Package) -> dict[str, Any]:
    return {
        "package": package.manifest.name,
        "manifest_sha256": sha256_of(package.path / MANIFEST_FILE),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": {
            name: version(name) for name in ("segmaformer", "onnxruntime", "numpy", "scipy")
        },
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def _write_record(package: Package, document: dict[str, Any]) -> None:
    folder = package.path.resolve()
    with atomic_path(folder.with_name(f"{folder.name}.verification.json")) as path:
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _conclude(document: dict[str, Any]) -> int:
    """Say what falls short; the exit code."""
    short = [run for run in document["runs"] if run["shortcomings"]]
    for run in short:
        say(f"sgmf: {run['variant']} on {run['backend']}: {'; '.join(run['shortcomings'])}")
    if short:
        return UNVERIFIED
    return REFUSED if document.get("refused") else DONE


def _print_result(document: dict[str, Any]) -> None:
    print_line(f"reference: {document['reference']}")
    _print_rows([_agreement_row(run) for run in document["runs"]])
    rows = [
        (run["variant"], name, *map(_shown, _figures(means)), run["backend"])
        for run in document["runs"]
        for name, means in run.get("structures", {}).items()
    ]
    if rows:
        head = ("variant", "structure", "Dice", "HD95 mm", "volume error %", "change of Dice")
        print_line(f"means over {len(document['cases'])} cases [{document['confidence']}]")
        _print_rows([(*head, "backend"), *rows])
    for variant, layers in document.get("layers", {}).items():
        _print_layers(variant, layers)


def _agreement_row(run: dict[str, Any]) -> tuple[str, ...]:
    dice = run.get("dice", run.get("dice_with_reference", {}))
    error = f"logits within {run['relative_error']:.1e}, " if "relative_error" in run else ""
    fate = "falls short" if run["shortcomings"] else "ok" if run.get("judged", True) else "-"
    agreement = f"{run['label_agreement']:.4%} of labels equal"
    lowest = f"lowest Dice {min(dice.values()):.5f}"
    return fate, run["variant"], f"{error}{agreement}, {lowest}", run["backend"]


def _print_layers(variant: str, layers: Sequence[dict[str, Any]]) -> None:
    """The first layer beyond the tolerance, and the worst."""
    from segmaformer.calibration.layer_comparison import TOLERANCE

    def error(layer: dict[str, Any]) -> float:
        return float("inf") if layer["relative_error"] is None else layer["relative_error"]

    beyond = [layer for layer in layers if error(layer) > TOLERANCE]
    first = f"; the first is {beyond[0]['tensor']}" if beyond else ""
    print_line(f"{variant}: {len(beyond)} of {len(layers)} values beyond {TOLERANCE:g}{first}")
    worst = sorted(layers, key=error, reverse=True)[:WORST_SHOWN]
    _print_rows([(f"{error(each):.2e}", each["operator"], each["tensor"]) for each in worst])


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


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest entry."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())
