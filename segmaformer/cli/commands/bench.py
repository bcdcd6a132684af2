"""``sgmf bench``: time a package's variants on this machine, and check their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import print_json, print_rows, progress_bar, say
from segmaformer.cli.exit_codes import DONE, FAILED, UNVERIFIED
from segmaformer.cli.package_parameters import PACKAGE_FOLDER, open_package, trust_options
from segmaformer.cli.parameters import (
    check_variants,
    json_option,
    threads_option,
    variants_option,
)
from segmaformer.cli.provenance import provenance
from segmaformer.runtime.backends import DEVICES, Device, backend_names, backends, find_backend
from segmaformer.runtime.benchmark import Candidate, benchmark
from segmaformer.runtime.package.reader import Package

NAMES = [name for name in backend_names() if name != "auto"]
HEAD = (
    "variant",
    "ms a tile",
    "fastest",
    "slowest",
    "tiles/s",
    "peak MiB",
    "labels equal",
    "backend",
)


@click.command("bench")
@click.argument("model", metavar="PACKAGE", type=PACKAGE_FOLDER)
@click.option(
    "--backend",
    "names",
    type=NamedChoice(NAMES),
    multiple=True,
    help="Backend to time; repeat for several. Default: every backend of this machine.",
)
@click.option("--device", type=NamedChoice(DEVICES), help="Time only backends on this device.")
@variants_option
@threads_option
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="How often to time each candidate.",
)
@trust_options
@json_option
def command(
    model: Path,
    names: tuple[str, ...],
    device: Device | None,
    variants: tuple[str, ...],
    threads: int | None,
    rounds: int,
    as_json: bool,
) -> int:
    """Measure the variants of PACKAGE on the backends of this machine, one tile at a time.

    A variant whose result differs from PyTorch's at export is not timed, and the exit code is 4. If
    you named a backend or variant that cannot run, the exit code is 1.
    """
    package = open_package(model)
    candidates = _candidates(package, names, device, variants)
    with progress_bar(package.manifest.name) as show:
        runs = benchmark(model, candidates, rounds=rounds, threads=threads, progress=show)
    if as_json:
        print_json({**provenance(package), "rounds": rounds, "runs": runs})
    else:
        _print(runs)
    return _conclude(runs, named=bool(names))


def _candidates(
    package: Package, names: Sequence[str], device: Device | None, variants: Sequence[str]
) -> list[Candidate]:
    known = package.manifest.variants
    check_variants(package.manifest, variants)
    _check_places(names, device)
    wanted = dict.fromkeys(variants or known)
    if names:
        return [
            Candidate(name, device, variant) for name in dict.fromkeys(names) for variant in wanted
        ]
    return [
        Candidate(backend.name, backend.device, variant)
        for backend in backends()
        if device in (None, backend.device) and backend.missing() is None
        for variant in wanted
        if backend.suits is None or variant in backend.suits
    ]


def _check_places(names: Sequence[str], device: Device | None) -> None:
    try:
        for name in names:
            find_backend(name, device)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _print(runs: Sequence[dict[str, Any]]) -> None:
    timed = [run for run in runs if "seconds_per_tile" in run]
    if timed:
        print_rows([HEAD, *map(_row, timed)])


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    times = (run[key] for key in ("seconds_per_tile", "fastest", "slowest"))
    peak = run["peak_mib"]
    return (
        run["variant"],
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        f"{run['tiles_per_second']:.2f}",
        "-" if peak is None else f"{peak:.0f}",
        f"{run['label_agreement']:.4%}{'' if run['judged'] else ', not judged'}",
        run["description"],
    )


def _conclude(runs: Sequence[dict[str, Any]], *, named: bool) -> int:
    """Report what was not timed and why; return the exit code."""
    short = [run for run in runs if run.get("shortcomings")]
    idle = [run for run in runs if "reason" in run]
    for run in short:
        say(f"sgmf: {run['variant']} on {run['description']}: {'; '.join(run['shortcomings'])}")
    for run in idle:
        say(f"sgmf: {run['variant']} on {run['backend']}: {run['reason']}")
    if short:
        return UNVERIFIED
    return FAILED if idle and (named or len(idle) == len(runs)) else DONE
