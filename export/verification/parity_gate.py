"""Gate of an export: variants against PyTorch, in float64 if float32 cannot decide."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segmaformer.export.verification.float64_reference import float64_logits
from segmaformer.export.verification.recorded_reference import RecordedCheck
from segmaformer.export.verification.scan_check import ScanCheck, check_scans
from segmaformer.export.verification.scan_samples import (
    SampledScan,
    recorded_scans,
    scans_of_graph,
)
from segmaformer.runtime.parity.tile_parity import ROUNDING_BOUND, TileParity, export_bound
from segmaformer.runtime.progress import Report
from segmaformer.runtime.spec import Output
from segmaformer.runtime.system.interruption import check

LONG_S = 10
"""Seconds for one tile beyond which each tile is reported."""


@dataclass(frozen=True)
class ReferenceNames:
    """Names of what variants are compared with.

    Attributes
    ----------
    program
        Name of the program that computes the reference.
    plain, finer
        Its float32, and what decides where that cannot.
    """

    program: str
    plain: str
    finer: str


PYTORCH = ReferenceNames("PyTorch", "PyTorch float32", "PyTorch float64")


@dataclass(frozen=True)
class Verdict:
    """Comparison of a variant with PyTorch.

    Attributes
    ----------
    variant
        Name of the variant.
    parity
        Figures of the comparison.
    exact
        Whether the bound of float32 decides, or else that of labels.
    scans
        Comparison of its scans one by one, if that was made.
    recorded
        Comparison with logits that another machine recorded, if there are any.
    rung
        What stays in float32, for float16.
    program
        Name of the program that computed the reference.
    """

    variant: str
    parity: TileParity
    exact: bool
    scans: ScanCheck | None = None
    recorded: RecordedCheck | None = None
    rung: str | None = None
    program: str = PYTORCH.program

    @property
    def refusal(self) -> str | None:
        """Reason to reject the variant; None if it passed."""
        found = self.parity.shortcomings(exact=self.exact)
        found += [] if self.scans is None else self.scans.shortcomings()
        if found:
            return f"{self.variant} does not match {self.program}: {'; '.join(found)}"
        found = [] if self.recorded is None else self.recorded.shortcomings()
        if found:
            return f"{self.variant} does not match the recorded logits: {'; '.join(found)}"
        return None

    @property
    def figures(self) -> str:
        """Figures in one line, for people."""
        parity = self.parity
        own = (
            ""
            if parity.noise is None
            else f"; {self.program}'s float32 is within {parity.noise:.1e}"
        )
        allowed = f" (at most {parity.bound:.1e}{own})" if self.exact else ""
        others = "".join(f"; {each.figures}" for each in (self.scans, self.recorded) if each)
        others += "" if self.rung is None else f"; {self.rung}"
        return (
            f"{self.variant}: logits within {parity.relative_error:.1e} of their range{allowed}, "
            f"{parity.agreement:.3%} of labels equal, lowest Dice {min(parity.dice.values()):.5f}"
            f"{others}"
        )

    def record(self) -> dict[str, Any]:
        """Describe the figures for the manifest."""
        record = self.parity.record(exact=self.exact)
        for each in (self.scans, self.recorded):
            record |= {} if each is None else each.record()
        return record if self.rung is None else {**record, "rung": self.rung}


class ParityGate:
    """Comparison of variants with PyTorch on some tiles.

    Logits of all tiles lie in unnamed temporary files, which vanish with the process: with many
    labels they would take more memory than the network.

    Parameters
    ----------
    model
        Network in evaluation mode, float32, on the CPU.
    tiles
        Shape (n, C, D, H, W), float32.
    folder
        Folder for the files.
    report
        Called with a line of text about each stage that takes long.
    names
        Names of the reference that `model` computes.
    """

    def __init__(
        self,
        model: nn.Module,
        tiles: np.ndarray,
        folder: Path,
        report: Report,
        names: ReferenceNames = PYTORCH,
    ):
        self._model, self._tiles, self._folder, self._report = model, tiles, folder, report
        self.names = names
        self._scans: list[SampledScan] = []
        self._expected = self._on_tiles(names.program, self._reference)

    def expected(self, tile: np.ndarray) -> np.ndarray:
        """Return PyTorch's float32 logits (K, D, H, W) of a tile, computed once."""
        for known, logits in zip(self._tiles, self._expected, strict=True):
            if np.array_equal(known, tile):
                return logits
        return float32_logits(self._model, tile)

    def _reference(self, tile: np.ndarray) -> np.ndarray:
        if self._scans:
            return float32_logits(self._model, tile)
        with recorded_scans(self._scans):  # of the first tile
            return float32_logits(self._model, tile)

    def check_scans(self, content: bytes) -> ScanCheck | None:
        """Compare the scans of a serialised float32 variant on the first tile; None without any."""
        if self.names is PYTORCH and not self._scans:
            return None
        found = scans_of_graph(content, self._tiles[0])
        if not found:
            return None
        self._report(f"comparing {len(found)} selective scans with their definition in float64")
        return check_scans(found, self._scans if self.names is PYTORCH else None)

    def run(self, name: str, compute: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
        """Compute a variant's logits on every tile; `compute` is given (C, D, H, W)."""
        return self._on_tiles(name, compute)

    def compare(self, found: Sequence[np.ndarray], output: Output, *, exact: bool) -> TileParity:
        """Compare results of :meth:`run` with PyTorch.

        If a float32 variant (`exact`) and PyTorch's float32 differ by more than rounding explains,
        either may be the wrong one. The tiles on which they do are then computed in float64: the
        variant is compared with that, and PyTorch's own error sets the bound.
        """
        parity = TileParity(output, reference=self.names.plain)
        for logits, expected in zip(found, self._expected, strict=True):
            parity.add(logits, expected)
        limit = ROUNDING_BOUND * parity.logit_range
        beyond = [index for index, error in enumerate(parity.tile_errors) if error > limit]
        if not exact or not beyond:
            return parity
        count = f"{len(beyond)} of {len(found)} tiles"
        self._report(
            f"logits differ by {parity.relative_error:.1e} of their range; {self.names.finer} "
            f"decides on {count}, which takes several times as long as float32"
        )
        others = "" if len(beyond) == len(found) else f" on {count}, float32 on the others"
        return self._compare_with_float64(found, output, beyond, f"{self.names.finer}{others}")

    def _compare_with_float64(
        self, found: Sequence[np.ndarray], output: Output, beyond: Sequence[int], reference: str
    ) -> TileParity:
        parity, own = TileParity(output, reference=reference), TileParity(output)
        for index, logits in enumerate(found):
            expected = self._expected[index]
            if index in beyond:
                expected = float64_logits(self._model, self._tiles[index])
                own.add(self._expected[index], expected)
            parity.add(logits, expected)
        span = parity.logit_range
        parity.noise = own.largest_error / span if span > 0 else 0.0
        parity.bound = export_bound(parity.noise)
        return parity

    def _on_tiles(self, name: str, compute: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
        kept = []
        for number, tile in enumerate(self._tiles, start=1):
            check()
            start = time.monotonic()
            kept.append(_on_disk(compute(tile), self._folder))
            seconds = time.monotonic() - start
            if seconds >= LONG_S:
                self._report(f"{name}: tile {number} of {len(self._tiles)} took {seconds:.0f} s")
        return kept


def float32_logits(model: nn.Module, tile: np.ndarray) -> np.ndarray:
    """Compute the logits (K, D, H, W) of a tile (C, D, H, W)."""
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(tile[None]))[0].numpy()
    return logits


def _on_disk(array: np.ndarray, folder: Path) -> np.ndarray:
    """Return a read-only copy in an unnamed file of `folder`."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        return np.memmap(file, array.dtype, "r", shape=array.shape)
