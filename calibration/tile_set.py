"""Tiles, and the record of their origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segmaformer.runtime.scans.channels import ScanCase
from segmaformer.runtime.spec import Triple


@dataclass(frozen=True, eq=False)
class ScanTiles:
    """Origin of one scan's tiles.

    Attributes
    ----------
    case
        Name and files of the scan.
    sha256
        SHA-256 by file name, in the order of the channels.
    origins
        First voxel (D, H, W) of each tile in the preprocessed scan, padded to a tile.
    voxels
        Number of voxels of each label in each tile, shape (tiles, labels): the larger of the
        float32 network's and, if there is one, the label map's.
    """

    case: ScanCase
    sha256: dict[str, str]
    origins: tuple[Triple, ...]
    voxels: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class TileSet:
    """Tiles of one or several scans.

    Attributes
    ----------
    tiles
        Shape (n, C, *tile), float32, on disk; in the order of `scans`.
    scans
        Origin of each scan's tiles.
    truth
        Shape (n, *tile), int32, on disk: the label maps, -1 for scans without one; None without any
        label maps.
    """

    tiles: np.ndarray = field(repr=False)
    scans: tuple[ScanTiles, ...]
    truth: np.ndarray | None = field(default=None, repr=False)

    @property
    def voxels(self) -> np.ndarray:
        """Number of voxels of each label in all tiles, int64."""
        total: np.ndarray = np.concatenate([scan.voxels for scan in self.scans]).sum(axis=0)
        return total

    def part(self, chosen: slice | np.ndarray, scans: tuple[ScanTiles, ...]) -> TileSet:
        """Return the `chosen` tiles, which come from `scans`."""
        return TileSet(
            self.tiles[chosen], scans, None if self.truth is None else self.truth[chosen]
        )

    def record(self, *, names: bool = False) -> dict[str, Any]:
        """Describe the scans for the manifest, by SHA-256 and, with `names`, by name."""
        scans = [
            {
                **({"name": scan.case.name, "files": [*scan.sha256]} if names else {}),
                "sha256": [*scan.sha256.values()],
                "tiles": [*map(list, scan.origins)],
            }
            for scan in self.scans
        ]
        return {"tiles": len(self.tiles), "label_voxels": self.voxels.tolist(), "scans": scans}


@dataclass(frozen=True, eq=False)
class CalibrationTiles:
    """Tiles chosen from a folder.

    Attributes
    ----------
    calibration, held_out
        Tiles for the statistics, and others to judge by; from different scans unless `notes` say
        otherwise.
    seed
        Seed of the choice.
    refused
        Reason why a case was not used, by its name.
    notes
        Sentences that a reader of the results must know.
    """

    calibration: TileSet
    held_out: TileSet
    seed: int
    refused: dict[str, str]
    notes: tuple[str, ...] = ()

    def record(self, *, names: bool = False) -> dict[str, Any]:
        """Describe the choice for the manifest; without `names`, only count refused cases."""
        return {
            "seed": self.seed,
            "calibration": self.calibration.record(names=names),
            "held_out": self.held_out.record(names=names),
            "refused": self.refused if names else len(self.refused),
            "notes": [*self.notes],
        }
