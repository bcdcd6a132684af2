"""Network that turns tiles into logits in memory of the processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segmaformer.runtime.bindings.callbacks import Callbacks, array_at
from segmaformer.runtime.bindings.label_task import RUN_TILES, NetworkArgs
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.spec import Triple

RunTiles = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TileNetwork:
    """Network that turns tiles into logits.

    Attributes
    ----------
    run
        Function from tiles (B, C, *tile) to logits (B, K, *logits_grid), both float32; B is at most
        `tiles_at_once`. The tiles are only valid during the call.
    tiles_at_once
        Largest number of tiles in a call.
    overlap
        Calls come from a thread of their own, so that the next tiles are cut out and the
        last ones blended meanwhile.
    mirrored_axes
        Logits are the mean over all combinations of these mirrored axes, 0 is depth; each
        doubles the number of calls.
    logits_grid
        Grid (D, H, W) of the logits; None is the tile's. The extents of a coarser one divide the
        tile's, and its logits are enlarged, as by the op ``Upsample``, when they are used.

    Raises
    ------
    ValueError
        `tiles_at_once` is below 1.
    """

    run: RunTiles
    tiles_at_once: int = 1
    overlap: bool = False
    mirrored_axes: tuple[int, ...] = ()
    logits_grid: Triple | None = None

    def __post_init__(self) -> None:
        if self.tiles_at_once < 1:
            raise ValueError(f"tiles_at_once is {self.tiles_at_once}; expected at least 1")

    def args(self, channels: int, classes: int, tile: Triple, callbacks: Callbacks) -> NetworkArgs:
        """Return the network as the native pipeline calls it; keep it as long as that runs."""
        grid = self.logits_grid or tile
        lent = _LentLogits(self.run, (channels, *tile), (classes, *grid), 1 + self.overlap)
        mirrored = tuple(axis in self.mirrored_axes for axis in range(3))
        callbacks.after_calls(lent.release)
        run = RUN_TILES(callbacks.guarded(lent))
        return NetworkArgs(run, self.tiles_at_once, self.overlap, grid, mirrored)


@dataclass
class _LentLogits:
    """Callback that keeps logits alive as long as the native pipeline reads them."""

    run: RunTiles
    tile_shape: tuple[int, ...]
    logits_shape: tuple[int, ...]
    batches: int
    _kept: list[np.ndarray] = field(default_factory=list)

    def release(self) -> None:
        """Give all of them up."""
        self._kept.clear()

    def __call__(self, _user: Any, tiles: int, count: int, logits: Any) -> None:
        # Release a batch before the next one is computed.
        del self._kept[: len(self._kept) - self.batches + 1]
        found = self.run(array_at(tiles, np.float32, count, *self.tile_shape))
        if found.shape != (count, *self.logits_shape):
            raise BackendError(
                f"the network gave logits {found.shape}; expected {(count, *self.logits_shape)}"
            )
        dense = np.ascontiguousarray(found, np.float32)
        self._kept.append(dense)
        logits[0] = dense.ctypes.data
