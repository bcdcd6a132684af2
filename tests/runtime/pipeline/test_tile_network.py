from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from support.networks.tile_logits import predict_logits

from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_boxes
from segmaformer.runtime.spec import Tiling

TILING = Tiling((4, 5, 6))
IMAGE = np.random.default_rng(0).standard_normal((2, 9, 3, 14)).astype(np.float32)
PADDED, _ = pad_to_tile(IMAGE, TILING.tile)
BOXES = tile_boxes(PADDED.shape[1:], TILING)  # type: ignore[arg-type]
Run = Callable[[np.ndarray], np.ndarray]


def logits_of(run: Run, tiles_at_once: int = 1, overlap: bool = True) -> np.ndarray:
    return predict_logits(IMAGE, TILING, TileNetwork(run, tiles_at_once, overlap), 2)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("tiles_at_once", [1, 2, 4, 100])
def test_tiles_come_in_order_whatever_the_batch(tiles_at_once: int, overlap: bool) -> None:
    """And logits stay where they are until they are used."""
    sizes: list[int] = []
    seen: list[np.ndarray] = []

    def run(tiles: np.ndarray) -> np.ndarray:
        sizes.append(len(tiles))
        seen.extend(tiles.copy())
        return tiles * np.arange(1, 1 + tiles[0].size, dtype=np.float32).reshape(tiles.shape[1:])

    found = logits_of(run, tiles_at_once, overlap)
    np.testing.assert_array_equal(seen, [PADDED[(slice(None), *box)] for box in BOXES])
    full, rest = divmod(len(BOXES), tiles_at_once)
    assert sizes == [tiles_at_once] * full + [rest] * bool(rest)
    np.testing.assert_array_equal(found, logits_of(run, 1, False))


def test_a_network_that_overlaps_runs_the_next_tile_while_the_last_is_used() -> None:
    started = [threading.Event() for _ in BOXES]
    threads = set[int]()
    count = itertools.count()

    def run(tiles: np.ndarray) -> np.ndarray:
        threads.add(threading.get_ident())
        started[next(count)].set()
        return tiles.copy()

    def progress(done: int, _count: int) -> None:
        # The next tile starts without being asked for, the one after it does not.
        assert done in (0, len(BOXES)) or started[done].wait(10)
        assert done == 0 or done + 1 >= len(BOXES) or not started[done + 1].is_set()

    predict_logits(IMAGE, TILING, TileNetwork(run, overlap=True), 2, progress=progress)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 3])
def test_the_networks_errors_appear(failing: int, overlap: bool) -> None:
    count = itertools.count()

    def run(tiles: np.ndarray) -> np.ndarray:
        if next(count) == failing:
            raise RuntimeError("no more")
        return tiles.copy()

    with pytest.raises(RuntimeError, match="no more"):
        logits_of(run, overlap=overlap)
    assert next(count) == failing + 1


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_of_the_progress_ends_the_run(overlap: bool) -> None:
    runs: list[int] = []

    def run(tiles: np.ndarray) -> np.ndarray:
        runs.append(len(tiles))
        return tiles.copy()

    def progress(done: int, _count: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_logits(IMAGE, TILING, TileNetwork(run, overlap=overlap), 2, progress=progress)
    assert len(runs) <= 1 + overlap


@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_held_after_a_run(failing: bool) -> None:
    """Neither logits nor what an error of the network saw, without waiting for a collection."""
    held: list[weakref.ref[np.ndarray]] = []

    def run(tiles: np.ndarray) -> np.ndarray:
        if failing and len(held) == 3:
            raise RuntimeError("no more")
        logits = tiles.copy()
        held.append(weakref.ref(logits))
        return logits

    gc.disable()
    try:
        with contextlib.suppress(RuntimeError):
            logits_of(run)
        assert len(held) == (3 if failing else len(BOXES))
        assert not any(logits() is not None for logits in held)
    finally:
        gc.enable()


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(BackendError, match=r"logits \(1, 1, 4, 5, 6\); expected \(1, 2, 4, 5, 6\)"):
        logits_of(lambda tiles: tiles[:, :1])


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="tiles_at_once is 0; expected at least 1"):
        TileNetwork(np.copy, 0)
