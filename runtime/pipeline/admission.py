"""Check that memory holds everything a scan needs, made before memory is taken.

A file of a few kilobytes may ask for terabytes: by the shape in its header, or by a spacing that
makes a huge grid of it. The need of a scan is known in two steps.

1. Its header gives the voxels, and the network's grid if nothing is cropped. Voxels beyond the
   budget are not read; if the package crops nothing, a scan with a grid beyond it is refused, too.
2. If the package crops to the nonzero box, the voxels must be read, within the budget, to know the
   grid, which cropping only makes smaller. The grid decides before the image on it is allocated.

So no scan is refused that would fit, and none takes more than the budget before it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def never_run(tiles: np.ndarray) -> np.ndarray:
    """Stand in for a network where only memory is counted."""
    raise NotImplementedError(f"tiles {tiles.shape} are not run where only memory is counted")


@dataclass(frozen=True)
class Admission:
    """Admission of scans whose prediction stays within a memory budget.

    Attributes
    ----------
    manifest
        Manifest of the package.
    budget_bytes
        Memory for the scan and all that grows with it, in bytes.
    network
        Network that is to run, whose tiles count; by default one that takes one tile at a time. It
        is not called.
    threads
        Number of threads of the prediction.
    """

    manifest: Manifest
    budget_bytes: int
    network: TileNetwork = TileNetwork(never_run)  # noqa: RUF009  (frozen)
    threads: int = 1

    def read(
        self,
        files: Sequence[str | Path],
        *,
        nan_to: float | None = None,
        where: Sequence[str] = (),
    ) -> Volume:
        """Read a scan, unless its header shows that it cannot be admitted.

        Parameters
        ----------
        files, nan_to, where
            As for :func:`segmaformer.runtime.scans.formats.read_scan`.

        Raises
        ------
        BudgetError
            The scan needs more than the budget; the message states both.
        GeometryError
            The spacing leaves a few voxels of the scan, or more tiles than a day's work. Other
            errors are those of :func:`segmaformer.runtime.scans.formats.read_scan`.
        """
        spec, budget = self.manifest.preprocessing, self.budget_bytes
        headers = [read_header(Path(path), where) for path in files]
        if headers:
            header = outline(headers[0], len(spec.channels))
            self._check_spacing(header)
            if not spec.crop_to_nonzero and spec.crop_above is None:
                self.check(header, self._whole_grid(header))
        try:
            return read_scan(
                headers, channels=len(spec.channels), budget_bytes=budget, nan_to=nan_to
            )
        except BudgetError:
            # The voxels alone are too many: the error must state the need of the whole work.
            self.check(header, self._whole_grid(header))
            raise

    def check(
        self,
        volume: Volume,
        grid: Preprocessed | None = None,
        *,
        held_bytes: int = 0,
        maps: int = 0,
    ) -> None:
        """Refuse a scan that was read.

        Parameters
        ----------
        volume
            The scan.
        grid
            Its grid, if the caller knows it.
        held_bytes
            Memory that is held beside the scan, in bytes.
        maps
            Number of maps of probabilities; 0 for labels.

        Raises
        ------
        BudgetError, GeometryError
            As for :meth:`read`.
        """
        self._check_spacing(volume)
        if grid is None:
            manifest = self.manifest
            grid = network_grid(volume, manifest.preprocessing, whole=False, masks=manifest.masks)
        Prediction(
            grid,
            self.manifest,
            self.network,
            budget_bytes=self.budget_bytes,
            scan_bytes=volume.voxels.nbytes + held_bytes,
            threads=self.threads,
            postprocessing=self.manifest.postprocessing,
        ).check_budget(maps)

    def _check_spacing(self, volume: Volume) -> None:
        check_grid(self._whole_grid(volume), self.manifest.tiling)

    def _whole_grid(self, volume: Volume) -> Preprocessed:
        manifest = self.manifest
        return network_grid(volume, manifest.preprocessing, whole=True, masks=manifest.masks)


def check_whole_image(volume: Volume, grid: Preprocessed, tile: Triple) -> None:
    """Refuse a scan that does not fit into memory together with its whole image on the grid.

    Work that cuts tiles out of the padded image needs that twice at worst.

    Raises
    ------
    BudgetError
        Scan and image need more than half of the free memory.
    """
    channels, depth, height, width = grid.image.shape
    padded, _ = place_in_tiles((depth, height, width), tile)
    scan_bytes, needed = volume.voxels.nbytes, volume.voxels.nbytes + grid.image.nbytes
    if padded != (depth, height, width):
        needed += channels * math.prod(padded) * grid.image.itemsize
    # The scan is in memory already, so it is not part of the free memory.
    budget = default_budget_bytes() + scan_bytes
    if needed > budget:
        raise BudgetError("scan and image", budget, needed)
