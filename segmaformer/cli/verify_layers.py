"""``sgmf verify --layers``: find where a variant departs from fp32, on the CPU or in an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from segmaformer.calibration.verification.compare import Choice
from segmaformer.cli.console import print_line, print_rows, progress_bar, say
from segmaformer.runtime.backends import Device
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.stored_reference import reference_tile
from segmaformer.runtime.parity.tiles import tiles_from_scan
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.scans.channels import ScanCase
from segmaformer.runtime.system.extras import require_extra

if TYPE_CHECKING:
    from segmaformer.calibration.verification.layer_comparison import LayerValues

WORST_SHOWN = 10
ON_CPU = "onnxruntime"
EXTRAS = {ON_CPU: "export", "tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
"""Backends that give access to layers, and the extra that each needs for it."""


def layers_backend(backends: Sequence[str], device: Device | None) -> str:
    """Return the backend whose layers are compared; ``auto`` is ONNX Runtime on the CPU.

    Raises
    ------
    UsageError
        There are several backends, or one of them gives no access to layers.
    MissingExtraError
        A package that the backend needs for it is not installed.
    """
    chosen = {ON_CPU if name == "auto" else name for name in backends}
    if len(chosen) > 1:
        raise click.UsageError(
            f"--layers takes one backend at a time, but {', '.join(sorted(chosen))} were given"
        )
    (name,) = chosen
    if name not in EXTRAS or (name == ON_CPU and device == "cuda"):
        shown = f"{name} on cuda" if device == "cuda" else name
        raise click.UsageError(
            f"--layers is not available for {shown}; it is for {', '.join(EXTRAS)}, the first on "
            "the CPU"
        )
    needed = ("onnx",) if name == ON_CPU else ("onnx", "polygraphy")
    require_extra(*needed, extra=EXTRAS[name])
    return name


def compare(
    package: Package,
    backend: str,
    choices: Sequence[Choice],
    *,
    case: ScanCase | None,
    reading: ScanOptions,
    threads: int | None,
) -> dict[str, dict[str, Any]]:
    """Compare the layers of each variant with those of fp32 on the CPU.

    Parameters
    ----------
    package, choices
        Package and its variants to compare; fp32 on the CPU is the reference itself.
    backend
        Name from :func:`layers_backend`.
    case
        Scan whose tiles are run; None runs the phantom tile.
    reading
        Choices about reading the scan.
    threads
        Number of CPU threads.

    Returns
    -------
    dict
        Results by variant, for JSON: ``backend`` and ``tiles`` as texts, and ``values``.
    """
    from segmaformer.calibration.verification.layer_comparison import compare_layers

    tiles, named = _tiles(package, case, reading)
    found = {}
    for variant in dict.fromkeys(choice.variant for choice in choices):
        if backend == ON_CPU and variant == EXACT_VARIANT:
            continue
        values = _opener(backend, threads)(package, variant)
        say(f"layers: {values.description}")
        with progress_bar(f"{package.manifest.name}, {variant}") as show:
            errors = compare_layers(
                package,
                values,
                tiles,
                threads=threads,
                progress=lambda done, count: show("layers", done, count),
            )
        found[variant] = {
            "backend": values.description,
            "tiles": f"{len(tiles)} of {named}",
            "values": [each.record() for each in errors],
        }
    return found


def print_layers(variant: str, layers: dict[str, Any]) -> None:
    """Print the first value beyond the tolerance and the worst."""
    from segmaformer.calibration.verification.layer_comparison import TOLERANCE

    def error(layer: dict[str, Any]) -> float:
        return float("inf") if layer["relative_error"] is None else layer["relative_error"]

    values = layers["values"]
    beyond = [layer for layer in values if error(layer) > TOLERANCE]
    first = f"; the first is {beyond[0]['tensor']}" if beyond else ""
    print_line(
        f"{variant}: {len(beyond)} of {len(values)} values beyond {TOLERANCE:g}{first} "
        f"[{layers['backend']}; tiles: {layers['tiles']}]"
    )
    worst = sorted(values, key=error, reverse=True)[:WORST_SHOWN]
    print_rows([(f"{error(each):.2e}", each["operator"], each["tensor"]) for each in worst])


def _opener(backend: str, threads: int | None) -> Callable[[Package, str], LayerValues]:
    if backend == ON_CPU:
        from segmaformer.calibration.verification.layer_comparison import OnnxRuntimeValues

        return lambda package, variant: OnnxRuntimeValues(package, variant, threads=threads)
    from segmaformer.export.engines.engine_layers import ENGINE_VALUES

    return ENGINE_VALUES[backend]


def _tiles(package: Package, case: ScanCase | None, reading: ScanOptions) -> tuple[np.ndarray, str]:
    """Return tiles to run, shape (n, C, D, H, W), and a text that names their source."""
    if case is None:
        return reference_tile(package.manifest), "a phantom"
    preprocessing, tiling = package.manifest.preprocessing, package.manifest.tiling
    return tiles_from_scan(case.files, preprocessing, tiling, options=reading), case.name
