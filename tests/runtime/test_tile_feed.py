from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest

from segmaformer.runtime.manifest import Tiling
from segmaformer.runtime.tile_feed import TileNetwork, tile_logits
from segmaformer.runtime.tiling import Box, cut_tile, place_in_tiles, tile_boxes

TILE = (4, 5, 6)
IMAGE = np.random.default_rng(0).standard_normal((2, 9, 3, 14)).astype(np.float32)
Run = Callable[[np.ndarray], np.ndarray]


def boxes_and_place() -> tuple[list[Box], Box]:
    _, depth, height, width = IMAGE.shape
    shape, place = place_in_tiles((depth, height, width), TILE)
    return tile_boxes(shape, Tiling(TILE)), place


def feed(run: Run, tiles_at_once: int = 1, overlap: bool = True) -> list[np.ndarray]:
    boxes, place = boxes_and_place()
    return list(tile_logits(IMAGE, place, boxes, TileNetwork(run, tiles_at_once, overlap)))


def twice(tiles: np.ndarray) -> np.ndarray:
    return 2 * tiles


def tile_threads() -> int:
    return sum(thread.name.startswith("tiles") for thread in threading.enumerate())


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("tiles_at_once", [1, 2, 4, 100])
def test_tiles_come_in_order_whatever_the_batch(tiles_at_once: int, overlap: bool) -> None:
    sizes: list[int] = []

    def run(tiles: np.ndarray) -> np.ndarray:
        sizes.append(len(tiles))
        return twice(tiles)

    boxes, place = boxes_and_place()
    found = feed(run, tiles_at_once, overlap)
    expected = [2 * cut_tile(IMAGE, box, place) for box in boxes]
    np.testing.assert_array_equal(found, expected)
    full, rest = divmod(len(boxes), tiles_at_once)
    assert sizes == [tiles_at_once] * full + [rest] * bool(rest)


def test_a_network_that_overlaps_runs_the_next_tile_while_the_last_is_used() -> None:
    boxes, place = boxes_and_place()
    started = [threading.Event() for _ in boxes]
    count = itertools.count()

    def run(tiles: np.ndarray) -> np.ndarray:
        started[next(count)].set()
        return tiles

    with closing(tile_logits(IMAGE, place, boxes, TileNetwork(run, overlap=True))) as logits:
        for index, _ in enumerate(logits):
            # The next tile starts without being asked for, the one after it does not.
            assert index + 1 == len(boxes) or started[index + 1].wait(10)
            assert index + 2 >= len(boxes) or not started[index + 2].is_set()
    assert tile_threads() == 0


@pytest.mark.parametrize("overlap", [False, True])
def test_no_tile_is_prepared_far_ahead(monkeypatch: pytest.MonkeyPatch, overlap: bool) -> None:
    cut = itertools.count(1)
    used = itertools.count(1)
    ahead: list[int] = []

    def counted(image: np.ndarray, box: Box, place: Box) -> np.ndarray:
        prepared.append(next(cut))
        return cut_tile(image, box, place)

    prepared: list[int] = []
    monkeypatch.setattr("segmaformer.runtime.tile_feed.cut_tile", counted)
    boxes, place = boxes_and_place()
    for _ in tile_logits(IMAGE, place, boxes, TileNetwork(twice, overlap=overlap)):
        ahead.append(len(prepared) - next(used))
    assert max(ahead) == overlap


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 3])
def test_the_networks_errors_appear_and_end_the_thread(failing: int, overlap: bool) -> None:
    count = itertools.count()

    def run(tiles: np.ndarray) -> np.ndarray:
        if next(count) == failing:
            raise RuntimeError("no more")
        return tiles

    with pytest.raises(RuntimeError, match="no more"):
        feed(run, overlap=overlap)
    assert tile_threads() == 0
    # What already waits may run; nothing is sent after it.
    assert next(count) <= failing + 2


def test_closing_early_ends_the_thread_without_the_waiting_tiles() -> None:
    boxes, place = boxes_and_place()
    runs: list[int] = []

    def run(tiles: np.ndarray) -> np.ndarray:
        runs.append(len(tiles))
        return tiles

    logits = tile_logits(IMAGE, place, boxes, TileNetwork(run, overlap=True))
    next(logits)
    assert tile_threads() == 1
    logits.close()
    assert tile_threads() == 0
    assert len(runs) <= 2


def test_what_is_held_grows_with_batch_and_overlap() -> None:
    held = [TileNetwork(twice, n, o).floats_held(1, 10) for o in (False, True) for n in (1, 4)]
    assert held == [21, 84, 32, 128]


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="tiles_at_once is 0; expected at least 1"):
        TileNetwork(twice, 0)
