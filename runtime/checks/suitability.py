"""Check that a scan resembles those that a package was trained on, and notes on changes to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.checks.intensity import ChannelSurvey, ScanSurvey
from segmaformer.runtime.errors import GeometryError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.preprocessing import check_grid, network_grid
from segmaformer.runtime.pipeline.resampling import target_shape
from segmaformer.runtime.pipeline.tiling import tile_starts
from segmaformer.runtime.scans.channel_names import check_channel_names
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.volume import ROBUST_PERCENTILES, Volume
from segmaformer.runtime.spec import Normalization, Spacing, Tiling, Triple

AIR_BELOW_HU = -100.0
# Fat, lung and noise make up far more than this share of a CT's voxels.
LEAST_NEGATIVE = 0.005
LEAST_CONTRAST = 0.05
MUCH_SMALLER = 0.5
MOST_TILE_VOLUMES = 64.0
MOST_TILES = 2000
NOTABLE_CROP = 0.9
_SPACING_TOLERANCE = 1e-3


def check_against_package(
    volume: Volume, survey: ScanSurvey, manifest: Manifest
) -> Iterator[Finding]:
    """Check a scan with the package's number of channels.

    Parameters
    ----------
    volume, survey
        The scan and the survey of its intensities.
    manifest
        Manifest of the package that is to segment the scan.
    """
    yield from check_channel_names(volume.source, manifest.preprocessing.channels)
    for channel, normalization in zip(
        survey.channels, manifest.preprocessing.normalization, strict=True
    ):
        yield from _check_units(channel, normalization)
    try:
        check_grid(network_grid(volume, manifest.preprocessing, whole=True), manifest.tiling)
    except GeometryError as error:
        yield Finding("refuse", str(error), "Correct the header's geometry.")
        return
    grid = _network_grid(volume, survey, manifest)
    yield from _check_tiles(grid, manifest.tiling)
    yield from _note_changes(volume, grid, manifest)


@dataclass(frozen=True)
class _Grid:
    """The scan on the network's grid, along its axes.

    `shape` in voxels, `scan_spacing_mm` before and `spacing_mm` after resampling, and the share
    `kept` of the scan's voxels after its empty border is cut away.
    """

    shape: Triple
    scan_spacing_mm: Spacing
    spacing_mm: Spacing
    kept: float


def _network_grid(volume: Volume, survey: ScanSurvey, manifest: Manifest) -> _Grid:
    spec = manifest.preprocessing
    extents = volume.shape
    if spec.crop_to_nonzero and survey.box is not None:
        x, y, z = (side.stop - side.start for side in survey.box)
        extents = x, y, z
    whole = network_grid(volume, spec, whole=True)
    depth, height, width = (extents[axis] for axis in whole.reorientation.axes)
    return _Grid(
        target_shape((depth, height, width), whole.scan_spacing_mm, whole.spacing_mm),
        whole.scan_spacing_mm,
        whole.spacing_mm,
        math.prod(extents) / math.prod(volume.shape),
    )


def _check_units(channel: ChannelSurvey, normalization: Normalization) -> Iterator[Finding]:
    if normalization.scheme == "rgb01" and (channel.lowest < 0 or channel.highest > 255):
        yield Finding(
            "refuse",
            f"{channel.name} ranges from {channel.lowest:g} to {channel.highest:g}; the model "
            "expects colour channels from 0 to 255",
            "Check that this is the kind of scan that the model was trained on.",
        )
    lower, upper = normalization.lower, normalization.upper
    if normalization.scheme != "ct" or lower is None or upper is None:
        return
    if lower < AIR_BELOW_HU and channel.negative < LEAST_NEGATIVE:
        yield Finding(
            "warn",
            f"{100 * channel.negative:.2g} % of {channel.name} are below zero, its lowest value "
            f"{channel.lowest:g} left aside; the model expects CT in Hounsfield units, of which "
            f"it uses {lower:g} to {upper:g}",
            "Convert the series again with its rescale slope and intercept: stored values are "
            "often 1024 too high.",
        )
    elif _contrast(channel, lower, upper) < LEAST_CONTRAST:
        yield Finding(
            "warn",
            f"99 % of {channel.name} lie between {channel.low:g} and {channel.high:g}; the model "
            f"uses {lower:g} to {upper:g}, where hardly any contrast is left",
            "Check that this is a CT in Hounsfield units, and not scaled to another range.",
        )


def _contrast(channel: ChannelSurvey, lower: float, upper: float) -> float:
    """Return the range of the clipped intensities, as a share of the range the model uses."""
    low, high = np.percentile(channel.sample.clip(lower, upper), ROBUST_PERCENTILES)
    return float(high - low) / (upper - lower)


def _check_tiles(grid: _Grid, tiling: Tiling) -> Iterator[Finding]:
    ratios = [extent / tile for extent, tile in zip(grid.shape, tiling.tile, strict=True)]
    sizes = f"{_product(grid.shape)} voxels on the model's grid; a tile has {_product(tiling.tile)}"
    if min(ratios) < MUCH_SMALLER:
        yield Finding(
            "warn",
            f"the scan has {sizes}: along one axis most of the network's input is padding",
            "Check the spacing, and that the scan covers what the model was trained on.",
        )
    elif min(ratios) < 1:
        yield Finding(
            "note",
            f"the scan has {sizes}: it is padded with zeros",
            "Nothing, if the model was trained on scans of this size, too.",
        )
    if math.prod(ratios) > MOST_TILE_VOLUMES:
        yield Finding(
            "warn",
            f"the scan has {sizes}: the network sees 1/{math.prod(ratios):.0f} of it at once",
            "Check the spacing. If the model was trained on a region, crop the scan to that.",
        )
    count = _tile_count(grid.shape, tiling)
    if count > MOST_TILES:
        yield Finding(
            "warn",
            f"the scan takes {count} tiles, more than {MOST_TILES}; this will take long",
            "Check the spacing, or crop the scan to the region of interest.",
        )


def _tile_count(shape: Triple, tiling: Tiling) -> int:
    return math.prod(
        len(tile_starts(max(extent, tile), tile, tiling.step, tiling.scheme))
        for extent, tile in zip(shape, tiling.tile, strict=True)
    )


def _note_changes(volume: Volume, grid: _Grid, manifest: Manifest) -> Iterator[Finding]:
    orientation = manifest.preprocessing.orientation
    if orientation is not None and volume.axis_codes != orientation:
        yield Finding(
            "note",
            f"the axes run towards {volume.axis_codes}; the model takes {orientation}",
            "Nothing: the scan is reordered for the network, the labels lie as the scan does.",
        )
    if not np.allclose(grid.scan_spacing_mm, grid.spacing_mm, rtol=_SPACING_TOLERANCE):
        factor = math.prod(grid.scan_spacing_mm) / math.prod(grid.spacing_mm)
        yield Finding(
            "note",
            f"the spacing is {_product(grid.scan_spacing_mm)} mm, the model's "
            f"{_product(grid.spacing_mm)} mm: {factor:.3g} times as many voxels after resampling",
            "Nothing: the labels come back at the scan's own spacing.",
        )
    if grid.kept < NOTABLE_CROP:
        yield Finding(
            "note",
            f"{100 * grid.kept:.0f} % of the scan are left when its empty border is cut away",
            "Nothing: the border gets the label 0.",
        )


def _product(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
