"""Facts that calibration measures once for all variants: layers, tiles and scales."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from segmaformer.calibration.flavours import FLAVOURS
from segmaformer.calibration.layers import Layer, find_layers
from segmaformer.calibration.ranges import RangeMethod, choose_scale
from segmaformer.calibration.statistics import ObservationOptions, observe
from segmaformer.calibration.tile_set import CalibrationTiles
from segmaformer.calibration.tiles import TileOptions, collect_tiles
from segmaformer.export.separate_ops import separate_layers
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.progress import Progress, Report


@dataclass(frozen=True, eq=False)
class Measurement:
    """A network ready to be quantised.

    Attributes
    ----------
    model
        The package's float32 network.
    layers
        All layers that could be int8 in any flavour or only hold int8 weights.
    tiles
        Tiles that the scales come from, and tiles held out to judge by.
    method
        Method that chose the ranges.
    scales
        Step of one int8 level for each tensor that any flavour rounds.
    """

    model: onnx.ModelProto = field(repr=False)
    layers: tuple[Layer, ...]
    tiles: CalibrationTiles
    method: RangeMethod
    scales: dict[str, float] = field(repr=False)

    def record(self, *, names: bool = False) -> dict[str, Any]:
        """Describe provenance, with or without `names` of scans, and scales for the manifest."""
        return {
            **self.tiles.record(names=names),
            "range_method": self.method,
            "scales": self.scales,
        }


def measure(
    package: Package,
    folder: Path,
    *,
    tiles: TileOptions = TileOptions(),  # noqa: B008  (frozen)
    method: RangeMethod = "mse",
    observation: ObservationOptions = ObservationOptions(),  # noqa: B008  (frozen)
    progress: Progress = lambda stage, done, count: None,
    report: Report = lambda message: None,
) -> Measurement:
    """Choose tiles from `folder` and find the scales of a package's network on them.

    Parameters
    ----------
    package
        Package whose fp32 variant is measured.
    folder
        Folder of scans to calibrate on.
    tiles
        Numbers of scans and tiles, and the seed.
    method
        Method that chooses ranges, see :func:`segmaformer.calibration.ranges.choose_scale`.
    observation
        Memory, threads and the file that keeps the progress.
    progress, report
        Called as work proceeds, and with a line of text about each notable fact.

    Raises
    ------
    InputError
        The folder is unsuitable, an activation is NaN or infinite, or the network has no layer
        that int8 would help.
    """
    model = onnx.load_from_string(package.network(EXACT_VARIANT))
    separate_layers(model)
    layers = find_layers(model)
    tensors = list(
        dict.fromkeys(
            name for flavour in FLAVOURS for name in flavour.observed(flavour.candidates(layers))
        )
    )
    if not tensors:
        raise InputError("the network has no convolution or matrix product that int8 would help")
    chosen = collect_tiles(
        package,
        folder,
        tiles,
        threads=observation.threads,
        progress=lambda done, count: progress("scans", done, count),
        report=report,
    )
    report(
        f"{len(chosen.calibration.tiles)} tiles of {len(chosen.calibration.scans)} scans to "
        f"calibrate on, {len(chosen.held_out.tiles)} of {len(chosen.held_out.scans)} held out"
    )
    for note in chosen.notes:
        report(note)
    histograms = observe(
        model,
        tensors,
        chosen.calibration.tiles,
        observation,
        progress=lambda done, count: progress("activations", done, count),
        report=report,
    )
    scales = {name: choose_scale(histograms[name], method) for name in tensors}
    return Measurement(model, layers, chosen, method, scales)
