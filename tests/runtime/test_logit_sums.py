from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime.logit_sums import HostLines, LogitSums, most_lines, strips
from segmaformer.runtime.manifest import Tiling
from segmaformer.runtime.tiling import Box, meet, tile_boxes

SHAPES = st.tuples(*[st.integers(6, 20)] * 3)
TILES = st.tuples(*[st.integers(2, 6)] * 3)
STEPS = st.sampled_from([0.25, 0.5, 0.7, 1.0])


def region_of(shape: tuple[int, ...], rows: tuple[float, float]) -> Box:
    first, last = sorted(int(part * (shape[1] - 1)) for part in rows)
    return slice(0, shape[0]), slice(first, last + 1), slice(1, shape[2] - 1)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, tile=TILES, step=STEPS, rows=st.tuples(*[st.floats(0, 1)] * 2))
def test_strips_finish_every_voxel_once_and_after_its_tiles(shape, tile, step, rows):  # type: ignore[no-untyped-def]
    region = region_of(shape, rows)
    boxes = [box for box in tile_boxes(shape, Tiling(tile, step)) if meet(box, region)]
    finished = np.zeros(shape[:2], int)
    seen: list[Box] = []
    for strip in strips(boxes, region):
        seen += strip.boxes
        finished[strip.planes, strip.rows] += 1
        for box in boxes[len(seen) :]:
            assert not finished[box[:2]].any()
    assert seen == boxes
    assert (finished[:, region[1]] == 1).all()
    assert finished.sum() == finished[:, region[1]].size


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, tile=TILES, step=STEPS, rows=st.tuples(*[st.floats(0, 1)] * 2))
def test_the_number_of_lines_suffices(shape, tile, step, rows):  # type: ignore[no-untyped-def]
    region = region_of(shape, rows)
    boxes = [box for box in tile_boxes(shape, Tiling(tile, step)) if meet(box, region)]
    capacity = most_lines(boxes, region)
    memory = HostLines(
        capacity, 2, region[2].stop - region[2].start, np.ones(tile, np.float32), threads=1
    )
    sums = LogitSums(memory, region, tile[0], capacity)
    for strip in strips(boxes, region):
        for box in strip.boxes:
            sums.add(box, np.ones((2, *tile), np.float32))
        extent = [side.stop - side.start for side in (strip.planes, strip.rows, region[2])]
        lines = memory.logits(sums.finish(strip, np.ones(extent, np.float32)))
        assert (lines.memory[lines.places] >= 1).all()
        sums.release(strip)


def test_memory_is_the_overlap_in_depth_and_one_strip() -> None:
    shape = (224, 202, 244)
    boxes = tile_boxes(shape, Tiling((96, 96, 96)))
    lines = most_lines(boxes, (slice(0, 224), slice(0, 202), slice(0, 244)))
    assert lines == pytest.approx(53 * 202 + 43 * 96, rel=0.05)
