"""Judgement of int8 by segmentations of held-out tiles."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.tile_set import TileSet
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.parity.tile_parity import TileParity
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.spec import Output

REFERENCE = "fp32 on held-out tiles"


@dataclass(frozen=True, eq=False)
class Judgement:
    """Comparison of a network with float32 and, if given, with label maps.

    Attributes
    ----------
    parity
        Agreement with the float32 network.
    truth_dice
        Dice of float32 and of this network with the label maps, by label; empty without label maps.
    """

    parity: TileParity
    truth_dice: dict[int, tuple[float, float]]

    @property
    def lowest_dice(self) -> float:
        """Dice with float32, of the label that suffers most."""
        return min(self.parity.dice.values())

    def shortfalls(self, gate: Gate) -> list[str]:
        """List the bounds of `gate` that this network misses, as sentences."""
        near = [
            f"Dice is {dice:.4f} for label {label}, expected at least {gate.least_dice:g}"
            for label, dice in self.parity.dice.items()
            if dice < gate.least_dice
        ]
        true = [
            f"Dice with the label maps falls from {before:.4f} to {after:.4f} for label {label}, "
            f"expected a loss of at most {gate.largest_loss:g}"
            for label, (before, after) in self.truth_dice.items()
            if before - after > gate.largest_loss
        ]
        return [*near, *true]

    def record(self) -> dict[str, Any]:
        """Describe, for the manifest, the facts that the variant's parity lacks."""
        pairs = {str(label): list(pair) for label, pair in self.truth_dice.items()}
        return {"dice_with_label_maps": pairs} if pairs else {}


class Judge:
    """Judge that runs networks on held-out tiles, float32 once, its logits kept on disk.

    Parameters
    ----------
    tiles
        Tiles held out from calibration.
    reference
        The float32 network.
    output
        Meaning of the logits.
    threads
        Number of threads for one tile; None uses every processor this process may use.
    """

    def __init__(
        self,
        tiles: TileSet,
        reference: onnx.ModelProto,
        output: Output,
        *,
        threads: int | None = None,
    ):
        self._tiles, self._output = tiles, output
        self._threads = threads or available_processors()
        self._labels = 1 + max(label.value for label in output.labels)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (mapped below)
        start = time.perf_counter()
        shape: tuple[int, ...] = ()
        for logits in self._logits(reference, range(len(self))):
            shape = logits.shape
            self._file.write(logits.astype(np.float32).tobytes())
        self._file.flush()
        self.seconds_per_tile = (time.perf_counter() - start) / len(self)
        self._expected = np.memmap(self._file, np.float32, "r", shape=(len(self), *shape))

    def __len__(self) -> int:
        return len(self._tiles.tiles)

    def __call__(self, model: onnx.ModelProto, *, most_tiles: int | None = None) -> Judgement:
        """Judge a network with the same interface, on all tiles or on some spread evenly."""
        count = min(len(self), most_tiles or len(self))
        indices = np.linspace(0, len(self) - 1, count).round().astype(int).tolist()
        parity = TileParity(self._output, reference=REFERENCE)
        before, after = np.zeros((2, self._labels, self._labels), np.int64)
        for index, logits in zip(indices, self._logits(model, indices), strict=True):
            parity.add(logits, self._expected[index])
            if self._tiles.truth is not None:
                truth = self._tiles.truth[index]
                before += self._confusion(truth, self._expected[index])
                after += self._confusion(truth, logits)
        return Judgement(parity, _pairs(before, after))

    def _logits(self, model: onnx.ModelProto, indices: range | list[int]) -> Iterator[np.ndarray]:
        session = open_network(model.SerializeToString(), threads=self._threads)
        for index in indices:
            tile = np.ascontiguousarray(self._tiles.tiles[index])[None]
            yield run_network(session, tile)[0][0]

    def _confusion(self, truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Count voxels by true and by found label, where the truth is known."""
        known = (truth >= 0) & (truth < self._labels)
        found = logits_to_labels(logits, self._output)[known]
        pairs = truth[known].astype(np.int64) * self._labels + found
        counts = np.bincount(pairs, minlength=self._labels**2)
        return counts.reshape(self._labels, self._labels)


def _pairs(before: np.ndarray, after: np.ndarray) -> dict[int, tuple[float, float]]:
    """Return the Dice of both confusions, for each label above 0 in the label maps."""
    shown = [label for label in range(1, len(before)) if before[label].any()]
    return {label: (_dice(before, label), _dice(after, label)) for label in shown}


def _dice(confusion: np.ndarray, label: int) -> float:
    total = confusion[label].sum() + confusion[:, label].sum()
    return float(2 * confusion[label, label] / total)
