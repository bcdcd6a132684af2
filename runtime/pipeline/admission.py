"""The check that memory holds what a scan needs, made before memory is taken.

A file of a few kilobytes may ask for terabytes: by the shape in its header, or by a spacing
that makes a huge grid of it. What a scan needs is known in two steps.

1. Its header tells the voxels, and the network's grid if nothing is cropped. Voxels beyond
   the budget are not read; nor is a scan whose grid is beyond it, where the package crops
   nothing.
2. Where it crops to what is not zero, the voxels must be read, within the budget, to know
   the grid, which cropping only makes smaller. The grid decides before the image on it is
   allocated.

So no scan is refused that would fit, and none takes more than the budget before it is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.prediction import Prediction
from segmaformer.runtime.pipeline.preprocessing import Preprocessed, check_grid, network_grid
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.pipeline.tiling import place_in_tiles
from segmaformer.runtime.scans.formats import read_header, read_scan
from segmaformer.runtime.scans.scan_file import outline
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Triple
from segmaformer.runtime.system.memory import default_budget_bytes


@dataclass(frozen=True)
class Admission:
    """Lets scans in whose prediction stays within a budget.

    Attributes
    ----------
    manifest
        Of the package.
    budget_bytes
        For the scan and all that grows with it.
    predict
        What would predict a preprocessed scan whose voxels take so many bytes.
    """

    manifest: Manifest
    budget_bytes: int
    predict: Callable[[Preprocessed, int], Prediction]

    @classmethod
    def of_package(cls, manifest: Manifest, budget_bytes: int) -> Admission:
        """Decide without a backend: by a network that takes one tile at a time."""
        network = TileNetwork(_never_run)

        def predict(grid: Preprocessed, scan_bytes: int) -> Prediction:
            return Prediction(
                grid,
                manifest,
                network,
                budget_bytes=budget_bytes,
                scan_bytes=scan_bytes,
                threads=1,
            )

        return cls(manifest, budget_bytes, predict)

    def read(self, files: Sequence[str | Path], *, nan_to: float | None = None) -> Volume:
        """Read a scan, unless its header shows that it is not let in.

        Parameters
        ----------
        files, nan_to
            As for :func:`segmaformer.runtime.scans.formats.read_scan`.

        Raises
        ------
        BudgetError
            What the scan needs, and what the budget is.
        GeometryError
            Its spacing leaves a few voxels of it, or more tiles than a day's work. Other errors
            are those of :func:`segmaformer.runtime.scans.formats.read_scan`.
        """
        spec, budget = self.manifest.preprocessing, self.budget_bytes
        if files:
            header = self._outline(files[0])
            self._check_spacing(header)
            if not spec.crop_to_nonzero:
                self.check(header, network_grid(header, spec, whole=True))
        try:
            return read_scan(files, channels=len(spec.channels), budget_bytes=budget, nan_to=nan_to)
        except BudgetError:
            # The voxels alone are too many: the error shall name what the whole work needs.
            self.check(header, network_grid(header, spec, whole=True))
            raise

    def check(self, volume: Volume, grid: Preprocessed | None = None) -> None:
        """Refuse a scan that was read; `grid` is its own if the caller knows it.

        Raises
        ------
        BudgetError, GeometryError
            As for :meth:`read`.
        """
        self._check_spacing(volume)
        if grid is None:
            grid = network_grid(volume, self.manifest.preprocessing, whole=False)
        self.predict(grid, volume.voxels.nbytes).check_budget()

    def _outline(self, path: str | Path) -> Volume:
        return outline(read_header(Path(path)), len(self.manifest.preprocessing.channels))

    def _check_spacing(self, volume: Volume) -> None:
        spec, tiling = self.manifest.preprocessing, self.manifest.tiling
        check_grid(network_grid(volume, spec, whole=True), tiling)


def check_whole_image(volume: Volume, grid: Preprocessed, tile: Triple) -> None:
    """Refuse a scan whose image on the network's grid cannot be held beside it as a whole.

    For work that cuts tiles out of the padded image, so that it needs that twice at worst.

    Raises
    ------
    BudgetError
        Scan and image need more than half of the memory that is free.
    """
    channels, depth, height, width = grid.image.shape
    padded, _ = place_in_tiles((depth, height, width), tile)
    scan_bytes, needed = volume.voxels.nbytes, volume.voxels.nbytes + grid.image.nbytes
    if padded != (depth, height, width):
        needed += channels * math.prod(padded) * grid.image.itemsize
    # The scan is there already, so it is not part of what is free.
    budget = default_budget_bytes() + scan_bytes
    if needed > budget:
        raise BudgetError("scan and image", budget, needed)


def _never_run(tiles: np.ndarray) -> np.ndarray:
    raise NotImplementedError(f"tiles {tiles.shape} are not run where only memory is counted")
