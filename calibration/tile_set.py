"""Tiles, and the record of where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segmaformer.runtime.scans.channels import ScanCase
from segmaformer.runtime.spec import Triple


@dataclass(frozen=True, eq=False)
class ScanTiles:
    """What was taken of one scan.

    Attributes
    ----------
    case
        Its name and files.
    sha256
        By file name, in the order of the channels.
    origins
        First voxel (D, H, W) of each tile in the preprocessed scan, padded to a tile.
    voxels
        Voxels of each label in each tile, shape (tiles, labels), as the float32 network and,
        where there is one, the label map see them: the larger number of both.
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
        What was taken of each.
    truth
        Shape (n, *tile), int32, on disk: the label maps, -1 where a scan has none; None where
        no label maps were given.
    """

    tiles: np.ndarray = field(repr=False)
    scans: tuple[ScanTiles, ...]
    truth: np.ndarray | None = field(default=None, repr=False)

    @property
    def voxels(self) -> np.ndarray:
        """Voxels of each label in all tiles, int64."""
        total: np.ndarray = np.concatenate([scan.voxels for scan in self.scans]).sum(axis=0)
        return total

    def part(self, chosen: slice | np.ndarray, scans: tuple[ScanTiles, ...]) -> TileSet:
        """The `chosen` tiles, which were taken of `scans`."""
        return TileSet(
            self.tiles[chosen], scans, None if self.truth is None else self.truth[chosen]
        )

    def record(self, *, names: bool = False) -> dict[str, Any]:
        """For the manifest: scans by their SHA-256 and, where wanted, by their names."""
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
    """What was chosen from a folder.

    Attributes
    ----------
    calibration, held_out
        Tiles for the statistics, and others to judge by; of different scans unless `notes` say
        otherwise.
    seed
        Of the choice.
    refused
        Why a case was not used, by its name.
    notes
        What a reader of the results must know.
    """

    calibration: TileSet
    held_out: TileSet
    seed: int
    refused: dict[str, str]
    notes: tuple[str, ...] = ()

    def record(self, *, names: bool = False) -> dict[str, Any]:
        """For the manifest; without `names`, of the refused only how many there were."""
        return {
            "seed": self.seed,
            "calibration": self.calibration.record(names=names),
            "held_out": self.held_out.record(names=names),
            "refused": self.refused if names else len(self.refused),
            "notes": [*self.notes],
        }
