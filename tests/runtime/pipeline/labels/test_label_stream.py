"""Streaming against the full computation: the same labels, voxel for voxel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support.networks.tile_logits import predict_logits

from segmaformer.runtime.errors import BudgetError, CancelledError
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.pipeline.probabilities import to_probabilities
from segmaformer.runtime.pipeline.resampling import resample
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_boxes
from segmaformer.runtime.spec import Label, Output, Region, Resampling, Tiling

PLENTY = 1 << 40


def smooth(random: np.random.Generator, channels: int, shape: tuple[int, ...]) -> np.ndarray:
    noise = random.standard_normal((channels, *shape))
    return (3 * ndimage.gaussian_filter(noise, (0, 1, 1, 1))).astype(np.float32)


def network(
    random: np.random.Generator, channels: int, tile: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of tiles whose result depends on the place inside the tile."""
    mix = random.standard_normal((channels, 3)).astype(np.float32)
    place = 0.3 * random.standard_normal((channels, *tile)).astype(np.float32)

    def run(tiles: np.ndarray) -> np.ndarray:
        return np.stack([logits_of(tile[0]) for tile in tiles])

    def logits_of(x: np.ndarray) -> np.ndarray:
        features = np.stack([x, np.roll(x, 1, 0) * x, np.roll(x, 2, 1)])
        logits: np.ndarray = (np.tensordot(mix, features, 1) + place).astype(np.float32)
        return logits

    return run


def ignore(done: int, count: int) -> None:
    pass


def output(channels: int, regions: bool) -> Output:
    labels = tuple(Label(value, str(value)) for value in range(channels))
    painted = tuple(Region(str(i), (i + 1,), i + 1) for i in range(channels)) if regions else ()
    return Output(labels, painted)


extents = st.tuples(*[st.integers(2, 16)] * 3)
tiles = st.tuples(*[st.integers(3, 8)] * 3)
targets = st.tuples(*[st.integers(1, 24)] * 3)
spacings = st.tuples(*[st.sampled_from([1.0, 2.0, 7.0])] * 3)


@settings(max_examples=30)
@given(
    shape=extents,
    tile=tiles,
    target=targets,
    spacing=spacings,
    channels=st.integers(1, 6),
    regions=st.booleans(),
    step=st.sampled_from([0.25, 0.5, 0.7, 1.0]),
    gaussian=st.booleans(),
    scheme=st.sampled_from(["nnunet", "monai"]),
    order_z=st.integers(0, 1),
    mirror_axes=st.sampled_from([(), (0,), (1, 2)]),
    tiles_at_once=st.integers(1, 4),
    overlap=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_full_computation_under_any_budget(
    shape,
    tile,
    target,
    spacing,
    channels,
    regions,
    step,
    gaussian,
    scheme,
    order_z,
    mirror_axes,
    tiles_at_once,
    overlap,
    seed,
):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    image = smooth(random, 1, shape)
    tiling = Tiling(tile, step, gaussian, scheme=scheme)
    meaning = output(channels, regions)
    run = network(random, channels, tile)
    new_spacing = tuple(a * s / n for a, s, n in zip(spacing, shape, target, strict=True))
    grids = {
        "spacing_mm": spacing,
        "new_spacing_mm": new_spacing,
        "resampling": Resampling(order=1, order_z=order_z),
    }
    logits = predict_logits(image, tiling, TileNetwork(run, mirrored_axes=mirror_axes), channels)
    expected = logits_to_labels(resample(logits, target, **grids), meaning)
    grid = LogitsGrid(target, new_spacing, spacing, grids["resampling"])
    apart = TileNetwork(run, tiles_at_once, overlap, mirror_axes)
    with pytest.raises(BudgetError) as refusal:
        LabelStream(image, tiling, meaning, grid, apart, budget=MemoryBudget(0), threads=1)
    for budget in (PLENTY, refusal.value.least_bytes):
        stream = LabelStream(
            image, tiling, meaning, grid, apart, budget=MemoryBudget(budget), threads=2
        )
        np.testing.assert_array_equal(stream.labels(ignore), expected)
    chosen = [channels - 1, 0]
    full = resample(logits, target, **grids)
    # Interpolated in float32, and logits of up to ten become probabilities.
    np.testing.assert_allclose(
        stream.probabilities(chosen, ignore),
        to_probabilities(full, chosen, exclusive=not regions),
        atol=1e-5,
    )


@settings(max_examples=40)
@given(
    body=st.tuples(*[st.integers(0, 9)] * 3),
    shape=st.tuples(*[st.integers(4, 22)] * 3),
    air=st.lists(st.sampled_from([-1.5, 0.0, -0.0]), min_size=2, max_size=2),
    scheme=st.sampled_from(["nnunet", "monai"]),
    mirror_axes=st.sampled_from([(), (1,)]),
    tiles_at_once=st.integers(1, 3),
    overlap=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_tiles_of_one_value_in_each_channel_run_once(
    body, shape, air, scheme, mirror_axes, tiles_at_once, overlap, seed
):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    tile = (6, 6, 6)
    image = np.empty((2, *shape), np.float32)
    image.T[:] = air
    inside = image[(slice(None), *(slice(extent) for extent in body))]
    inside[:] = random.standard_normal(inside.shape)
    tiling = Tiling(tile, 0.5, scheme=scheme)
    compute = network(random, 3, tile)
    runs = 0

    def run(tiles: np.ndarray) -> np.ndarray:
        nonlocal runs
        runs += len(tiles)
        return compute(tiles.sum(1, keepdims=True))

    def labels(budget_bytes: int) -> np.ndarray:
        return LabelStream(
            image,
            tiling,
            output(3, False),
            LogitsGrid(shape, (1.0,) * 3, (1.0,) * 3, Resampling(order=1)),
            TileNetwork(run, tiles_at_once, overlap, mirror_axes),
            budget=MemoryBudget(budget_bytes),
            threads=1,
        ).labels(ignore)

    found = labels(PLENTY)
    assert runs == 2 ** len(mirror_axes) * different_tiles(image, tiling)
    with pytest.raises(BudgetError) as refusal:
        labels(0)
    np.testing.assert_array_equal(labels(refusal.value.least_bytes), found)


def different_tiles(image: np.ndarray, tiling: Tiling) -> int:
    """Count tiles, and those of the commonest bits of one value in each channel as one."""
    padded, _ = pad_to_tile(image, tiling.tile)
    boxes = tile_boxes(padded.shape[1:], tiling)
    flat: Counter[bytes] = Counter()
    for box in boxes:
        bits = padded[(slice(None), *box)].reshape(len(image), -1).view(np.uint32)
        if (bits == bits[:, :1]).all():
            flat[bits[:, 0].tobytes()] += 1
    return len(boxes) - max(0, max(flat.values(), default=0) - 1)


def wide_stream(budget_bytes: int, *, scan_bytes: int = 0, channels: int = 5) -> LabelStream:
    shape, target = (12, 40, 36), (24, 80, 72)
    image = smooth(np.random.default_rng(0), 1, shape)
    return LabelStream(
        image,
        Tiling((8, 8, 8)),
        output(channels, False),
        LogitsGrid(target, (1.0,) * 3, (2.0,) * 3, Resampling(order=1)),
        TileNetwork(network(np.random.default_rng(0), channels, (8, 8, 8))),
        budget=MemoryBudget(budget_bytes, scan_bytes),
        threads=1,
    )


def test_progress_counts_every_tile_run() -> None:
    stream = wide_stream(PLENTY)
    seen: list[tuple[int, int]] = []
    stream.labels(lambda *step: seen.append(step))
    assert seen == [(done, stream.tile_runs) for done in range(stream.tile_runs + 1)]


def test_a_stream_runs_again_also_after_an_error() -> None:
    stream = wide_stream(PLENTY)

    def stop(done: int, count: int) -> None:
        raise CancelledError(f"after {done} of {count}")

    expected = stream.labels(ignore)
    with pytest.raises(CancelledError, match="after 0"):
        stream.labels(stop)
    np.testing.assert_array_equal(stream.labels(ignore), expected)


def test_less_memory_costs_tiles() -> None:
    with pytest.raises(BudgetError) as refusal:
        wide_stream(0)
    least = refusal.value.least_bytes
    runs = [wide_stream(budget).tile_runs for budget in (PLENTY, 2 * least, least)]
    assert runs == sorted(runs)
    assert runs[0] < runs[-1]


def test_budget_error_says_what_would_do() -> None:
    with pytest.raises(
        BudgetError, match=r"need at least \d+ MiB.*raise --memory-budget"
    ) as refusal:
        wide_stream(1000)
    least = refusal.value.least_bytes
    wide_stream(least)
    with pytest.raises(BudgetError) as refusal:
        wide_stream(1000, scan_bytes=5000)
    assert refusal.value.least_bytes == least + 5000


@pytest.mark.parametrize("regions", [False, True])
def test_splines_of_higher_order_need_all_logits(regions: bool) -> None:
    image = smooth(np.random.default_rng(0), 1, (7, 9, 8))
    run = TileNetwork(network(np.random.default_rng(0), 3, (5, 5, 5)))
    cubic, target = Resampling(order=3), (10, 8, 9)
    grid = LogitsGrid(target, (0.7, 1.1, 0.9), (1.0,) * 3, cubic)
    meaning = output(3, regions)
    stream = LabelStream(
        image, Tiling((5, 5, 5)), meaning, grid, run, budget=MemoryBudget(PLENTY), threads=1
    )
    assert not stream.streams
    logits = predict_logits(image, Tiling((5, 5, 5)), run, 3)
    np.testing.assert_array_equal(stream.logits(ignore), logits)
    spacings = {"spacing_mm": grid.image_spacing_mm, "new_spacing_mm": grid.spacing_mm}
    full = resample(logits, target, resampling=cubic, **spacings)
    np.testing.assert_array_equal(stream.labels(ignore), logits_to_labels(full, meaning))


def test_labels_fill_a_view() -> None:
    stream = wide_stream(PLENTY)
    expected = stream.labels(ignore)
    whole = np.full((80, 74, 30), 9, np.uint16)
    view = whole.transpose(2, 0, 1)[26:2:-1, :, 1:73]
    assert stream.labels(ignore, view) is view
    np.testing.assert_array_equal(view, expected)
    assert np.count_nonzero(whole == 9) == whole.size - view.size
