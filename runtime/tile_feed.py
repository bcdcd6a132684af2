"""Tiles through the network in batches, with the work around it alongside where that pays."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.label_kernels import Logits
from segmaformer.runtime.tiling import Box, RunTiles, cut_tile

_Batches = Generator[np.ndarray, None, None]


@dataclass(frozen=True)
class TileNetwork:
    """How tiles become logits.

    Attributes
    ----------
    run
        Tiles (B, C, *tile) to logits (B, K, *tile), both float32; B is at most
        `tiles_at_once`.
    tiles_at_once
        Most tiles of a call.
    overlap
        Calls come from a thread of their own, so that the next tiles are cut out and the
        last ones blended meanwhile.

    Raises
    ------
    ValueError
        `tiles_at_once` is below 1.
    """

    run: RunTiles
    tiles_at_once: int = 1
    overlap: bool = False

    def __post_init__(self) -> None:
        if self.tiles_at_once < 1:
            raise ValueError(f"tiles_at_once is {self.tiles_at_once}; expected at least 1")

    def floats_held(self, channels: int, logits: int) -> int:
        """Numbers for each voxel of a tile that exist at once, within `run` and between.

        Parameters
        ----------
        channels, logits
            Of a tile and of its logits.
        """
        # Mirroring holds the sum of the logits beside the latest.
        running = channels + 2 * logits
        waiting = channels + logits if self.overlap else 0
        return self.tiles_at_once * (running + waiting)


def tile_logits(
    image: np.ndarray, place: Box, boxes: Sequence[Box], network: TileNetwork
) -> Generator[Logits, None, None]:
    """Logits (K, *tile) of one tile after the other.

    Close the generator if it is not used up: the thread that a network with ``overlap``
    has ends with it. Errors of the network appear here.

    Parameters
    ----------
    image
        Shape (C, D, H, W), float32.
    place
        Where it lies, in the coordinates of `boxes`; tiles may reach beyond.
    boxes
        The tiles in order.
    network
        What runs them.
    """
    tiles = tile_batches(image, place, boxes, network.tiles_at_once)
    with closing((_overlapped if network.overlap else _in_turn)(network.run, tiles)) as run:
        for logits in run:
            yield from logits
            # A batch is gone before the next one is computed.
            del logits


def tile_batches(
    image: np.ndarray, place: Box, boxes: Sequence[Box], count: int
) -> Iterator[np.ndarray]:
    """Tiles (B, C, *tile) in order, up to `count` at once; parameters as above."""
    batches = (boxes[first : first + count] for first in range(0, len(boxes), count))
    return (np.stack([cut_tile(image, box, place) for box in batch]) for batch in batches)


def _in_turn(run: RunTiles, tiles: Iterable[np.ndarray]) -> _Batches:
    yield from map(run, tiles)


def _overlapped(run: RunTiles, tiles: Iterator[np.ndarray]) -> _Batches:
    """One batch runs, at most one waits to be run and one to be used."""
    with ThreadPoolExecutor(1, "tiles") as worker:
        try:
            running: Future[np.ndarray] | None = None
            for batch in tiles:
                following = worker.submit(run, batch)
                if running is not None:
                    yield running.result()
                running = following
            if running is not None:
                yield running.result()
        finally:
            worker.shutdown(cancel_futures=True)
