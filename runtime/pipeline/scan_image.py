"""A scan's whole image on the network's grid, for work that cuts tiles out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.pipeline.admission import check_whole_image
from segmaformer.runtime.pipeline.preprocessing import Preprocessed, preprocess
from segmaformer.runtime.pipeline.straightening import (
    Straightening,
    find_straightening,
    straight_within,
)
from segmaformer.runtime.pipeline.tiling import pad_to_tile
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Preprocessing, Triple
from segmaformer.runtime.system.memory import default_budget_bytes


@dataclass(frozen=True)
class ScanOptions:
    """Choices of a user about reading scans.

    Attributes
    ----------
    nan_to
        Replaces voxels that are NaN or infinite; None refuses such scans.
    where
        Conditions ``KEYWORD=VALUE`` on the images of folders with several DICOM series.
    keep_tilt
        Show the network a tilted DICOM series as it is, not straightened.
    """

    nan_to: float | None = None
    where: tuple[str, ...] = ()
    keep_tilt: bool = False

    def notes(self) -> list[str]:
        """Say in sentences what differs from the default, for a reader of results."""
        notes = []
        if self.nan_to is not None:
            notes.append(f"voxels that were NaN or infinite counted as {self.nan_to:g}")
        if self.where:
            notes.append(f"DICOM images were chosen by {' and '.join(self.where)}")
        if self.keep_tilt:
            notes.append("tilted DICOM series were not straightened")
        return notes


@dataclass(frozen=True, eq=False)
class ScanImage:
    """A scan that was read and preprocessed as inference does.

    Attributes
    ----------
    volume
        The scan as it was read.
    straightening
        Straightening before it was preprocessed; None if there was none.
    prepared
        The scan on the network's grid.
    image
        Its image (C, D, H, W), float32, padded to at least a tile.
    """

    volume: Volume
    straightening: Straightening | None
    prepared: Preprocessed
    image: npt.NDArray[np.float32] = field(repr=False)


def read_scan_image(
    files: Sequence[Path],
    preprocessing: Preprocessing,
    tile: Triple,
    options: ScanOptions = ScanOptions(),
) -> ScanImage:
    """Read a scan and preprocess it within half of the free memory.

    Parameters
    ----------
    files
        Files or DICOM folders in the order of the channels.
    preprocessing, tile
        Preprocessing of the package, and its tile along D, H and W.
    options
        Choices about reading.

    Raises
    ------
    InputError, GeometryError, BudgetError
        The scan cannot be used; the message says why.
    """
    volume = read_scan(
        files,
        channels=len(preprocessing.channels),
        budget_bytes=default_budget_bytes(),
        nan_to=options.nan_to,
        where=options.where,
    )
    # The scan is in memory already, so it is not part of the free memory.
    budget_bytes = default_budget_bytes() + volume.voxels.nbytes
    straightening = None if options.keep_tilt else find_straightening(volume)
    straight = straight_within(volume, straightening, budget_bytes)
    prepared = preprocess(
        straight, preprocessing, admit=lambda grid: check_whole_image(straight, grid, tile)
    )
    image, _ = pad_to_tile(prepared.image, tile)
    return ScanImage(volume, straightening, prepared, image)
