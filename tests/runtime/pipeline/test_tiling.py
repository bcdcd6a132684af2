from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native.single_functions import tile_weights
from support.networks.tile_logits import predict_logits

from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_boxes, tile_starts
from segmaformer.runtime.spec import Tiling, TilingScheme, Triple

TILES = st.tuples(*[st.integers(1, 7)] * 3)
SHAPES = st.tuples(*[st.integers(1, 15)] * 3)
STEPS = st.sampled_from([0.25, 0.5, 0.7, 1.0])


@pytest.mark.parametrize(
    ("extent", "tile", "step", "starts"),
    [
        (64, 64, 0.5, [0]),
        (65, 64, 0.5, [0, 1]),
        (96, 64, 0.5, [0, 32]),
        (97, 64, 0.5, [0, 16, 33]),
        (110, 64, 0.5, [0, 23, 46]),
        (128, 64, 0.5, [0, 32, 64]),
        (155, 128, 0.5, [0, 27]),
        (240, 128, 0.5, [0, 56, 112]),
        (10, 3, 0.5, [0, 1, 3, 4, 6, 7]),
        (5, 2, 1.0, [0, 2, 3]),
        (512, 128, 1.0, [0, 128, 256, 384]),
        (513, 128, 1.0, [0, 96, 192, 289, 385]),
        (3, 1, 1.0, [0, 1, 2]),
        (3, 1, 0.5, [0, 1, 2]),
    ],
)
def test_starts_are_those_computed_by_hand(
    extent: int, tile: int, step: float, starts: list[int]
) -> None:
    assert tile_starts(extent, tile, step) == starts


@given(tile=st.integers(1, 200), surplus=st.integers(0, 600), step=st.floats(0.05, 1))
@settings(max_examples=25)
def test_starts_cover_the_axis_in_even_steps(tile: int, surplus: int, step: float) -> None:
    starts = tile_starts(tile + surplus, tile, step)
    assert starts[0] == 0
    assert starts[-1] == surplus
    distances = np.diff(starts)
    assert (distances >= 0).all()
    assert (distances <= tile).all()
    assert (distances < step * tile + 1).all()
    assert len(distances) == 0 or distances.max() - distances.min() <= 1
    # One tile fewer could not keep to the step.
    assert len(starts) < 3 or surplus / (len(starts) - 2) > step * tile * (1 - 1e-9)


@pytest.mark.parametrize(
    ("extent", "tile", "step"), [(7, 8, 0.5), (8, 0, 0.5), (8, -1, 0.5), (8, 8, 0), (8, 8, 1.1)]
)
def test_impossible_tilings_are_refused(extent: int, tile: int, step: float) -> None:
    with pytest.raises(ValueError, match=r"a tile of|step is"):
        tile_starts(extent, tile, step)


def test_boxes_run_through_the_volume_with_depth_slowest() -> None:
    boxes = tile_boxes((4, 6, 2), Tiling((2, 4, 2), step=1.0))
    corners = [tuple(side.start for side in box) for box in boxes]
    assert corners == [(0, 0, 0), (0, 2, 0), (2, 0, 0), (2, 2, 0)]
    assert {tuple(side.stop - side.start for side in box) for box in boxes} == {(2, 4, 2)}


@pytest.mark.parametrize("scheme", get_args(TilingScheme))
@given(tile=TILES, surplus=SHAPES, step=STEPS)
@settings(max_examples=25)
def test_boxes_cover_every_voxel(
    scheme: TilingScheme, tile: Triple, surplus: Triple, step: float
) -> None:
    shape = tuple(t + s for t, s in zip(tile, surplus, strict=True))
    covered = np.zeros(shape, bool)
    for box in tile_boxes(shape, Tiling(tile, step, scheme=scheme)):
        assert covered[box].shape == tile
        covered[box] = True
    assert covered.all()


def gaussian_by_formula(tile: Triple) -> np.ndarray:
    """Compute the map without a filter: product of exponentials, peak 10, rounded to float16."""
    squares = np.zeros(tile)
    for axis, extent in enumerate(tile):
        distance = (np.arange(extent) - extent // 2) / (extent / 8)
        squares = squares + distance.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
    return (10 * np.exp(-squares / 2)).astype(np.float16)


@pytest.mark.parametrize("tile", [(8, 8, 8), (32, 32, 48), (5, 7, 9), (1, 1, 1), (64, 1, 6)])
def test_the_gaussian_map_is_that_of_the_formula(tile: Triple) -> None:
    weights = tile_weights(Tiling(tile))
    formula = gaussian_by_formula(tile).astype(np.float32)
    spacing = np.spacing(formula.astype(np.float16)).astype(np.float32)
    inside = formula > 0
    assert (np.abs(weights - formula)[inside] <= spacing[inside]).all()


@given(st.tuples(*[st.integers(1, 40)] * 3))
@settings(max_examples=25)
def test_the_gaussian_map_weighs_the_centre_most_and_every_voxel(tile: Triple) -> None:
    weights = tile_weights(Tiling(tile))
    assert weights.shape == tile
    assert weights.dtype == np.float32
    assert weights.max() == 10
    assert weights[tuple(extent // 2 for extent in tile)] == 10
    assert weights.min() > 0
    assert (weights.astype(np.float16) == weights).all()
    for axis, extent in enumerate(tile):
        # The centre of an even extent lies right of its middle: index 0 has no partner.
        paired = np.take(weights, range(1 - extent % 2, extent), axis)
        np.testing.assert_array_equal(paired, np.flip(paired, axis))


@given(TILES, SHAPES)
@settings(max_examples=25)
def test_padding_is_symmetric_zero_and_undone_by_its_box(tile: Triple, shape: Triple) -> None:
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32) + 10
    padded, box = pad_to_tile(image, tile)
    assert padded.shape[1:] == tuple(map(max, tile, shape))
    np.testing.assert_array_equal(padded[(slice(None), *box)], image)
    assert np.count_nonzero(padded) == image.size
    for side, extent in zip(box, padded.shape[1:], strict=True):
        before, after = side.start, extent - side.stop
        assert 0 <= after - before <= 1


def test_a_large_volume_is_not_copied_for_padding() -> None:
    image = np.ones((1, 9, 9, 9), np.float32)
    assert pad_to_tile(image, (8, 9, 4))[0] is image


def position_dependent(tiles: np.ndarray) -> np.ndarray:
    """Return three channels that depend on intensities, neighbours and place within the tile."""
    depth, height, width = np.indices(tiles.shape[2:], np.float32)
    first = tiles[:, 0]
    return np.stack(
        [first * depth - height, np.roll(first, 1, axis=-1) + width, tiles.sum(1) * 0.5], axis=1
    )


def naive_logits(image: np.ndarray, tile: Triple, step: float, weights: np.ndarray) -> np.ndarray:
    """Blend logits in float64, voxel by voxel from the definition."""
    before = [max(0, t - extent) // 2 for t, extent in zip(tile, image.shape[1:], strict=True)]
    shape = tuple(map(max, tile, image.shape[1:]))
    padded = np.zeros((len(image), *shape))
    inner = tuple(slice(b, b + e) for b, e in zip(before, image.shape[1:], strict=True))
    padded[(slice(None), *inner)] = image
    total, weight_sum = np.zeros((3, *shape)), np.zeros(shape)
    starts = [tile_starts(e, t, step) for e, t in zip(shape, tile, strict=True)]
    for corner in itertools.product(*starts):
        box = tuple(slice(c, c + t) for c, t in zip(corner, tile, strict=True))
        logits = position_dependent(padded[(slice(None), *box)][None])[0]
        total[(slice(None), *box)] += logits * weights.astype(np.float64)
        weight_sum[box] += weights
    return (total / weight_sum)[(slice(None), *inner)]


@given(TILES, SHAPES, STEPS, st.booleans())
@settings(max_examples=25)
def test_blending_equals_the_definition_in_float64(
    tile: Triple, shape: Triple, step: float, gaussian: bool
) -> None:
    image = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    weights = tile_weights(Tiling(tile)) if gaussian else np.ones(tile)
    logits = predict_logits(image, Tiling(tile, step, gaussian), TileNetwork(position_dependent), 3)
    assert logits.dtype == np.float32
    expected = naive_logits(image, tile, step, weights)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheme", get_args(TilingScheme))
@pytest.mark.parametrize("shape", [(8, 8, 8), (20, 9, 13), (3, 30, 5), (1, 1, 1)])
def test_constant_logits_come_back_constant(scheme: TilingScheme, shape: Triple) -> None:
    values = np.array([1.5, -3.25, 1e-3], np.float32)

    def constant(tiles: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values[None, :, None, None, None], (1, 3, *tiles.shape[2:]))

    tiling = Tiling((8, 8, 8), scheme=scheme)
    logits = predict_logits(np.zeros((1, *shape), np.float32), tiling, TileNetwork(constant), 3)
    expected = np.broadcast_to(values[:, None, None, None], logits.shape)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_a_single_tile_gives_the_network_itself() -> None:
    image = np.random.default_rng(2).normal(size=(2, 6, 7, 8)).astype(np.float32)
    logits = predict_logits(image, Tiling((6, 7, 8)), TileNetwork(position_dependent), 3)
    np.testing.assert_allclose(logits, position_dependent(image[None])[0], rtol=1e-6)


def test_a_small_volume_is_padded_around_its_middle_and_cut_out_again() -> None:
    seen: list[np.ndarray] = []

    def identity(tiles: np.ndarray) -> np.ndarray:
        seen.append(tiles.copy())
        return tiles

    image = np.random.default_rng(3).normal(size=(1, 3, 4, 5)).astype(np.float32)
    logits = predict_logits(image, Tiling((6, 7, 8)), TileNetwork(identity), 1)
    np.testing.assert_allclose(logits, image, rtol=1e-6)
    (tile,) = seen
    np.testing.assert_array_equal(tile[0, 0, 1:4, 1:5, 1:6], image[0])
    assert np.count_nonzero(tile) == image.size


def test_tiles_are_contiguous_float32_of_batch_one() -> None:
    def check(tiles: np.ndarray) -> np.ndarray:
        assert tiles.shape == (1, 2, 4, 4, 4)
        assert tiles.dtype == np.float32
        assert tiles.flags.c_contiguous
        return tiles

    predict_logits(np.ones((2, 9, 4, 6), np.float32), Tiling((4, 4, 4)), TileNetwork(check), 2)


def test_progress_counts_from_none_to_all_tiles() -> None:
    calls: list[tuple[int, int]] = []
    predict_logits(
        np.ones((1, 8, 4, 6), np.float32),
        Tiling((4, 4, 4)),
        TileNetwork(lambda tiles: tiles),
        1,
        progress=lambda done, count: calls.append((done, count)),
    )
    assert calls == [(done, 6) for done in range(7)]


def blur(tiles: np.ndarray) -> np.ndarray:
    """Commutes with every flip: the sum over the neighbours on both sides."""
    total = tiles.copy()
    for axis in (2, 3, 4):
        total += np.roll(tiles, 1, axis) + np.roll(tiles, -1, axis)
    return total


AXES = [(), (0,), (2,), (0, 1), (0, 2), (0, 1, 2)]


def mirrored_logits(
    run: Callable[[np.ndarray], np.ndarray], tile: np.ndarray, axes: tuple[int, ...], channels: int
) -> np.ndarray:
    """Compute logits of a single tile (C, D, H, W)."""
    _, depth, height, width = tile.shape
    network = TileNetwork(_contiguous_only(run), mirrored_axes=axes)
    tiling = Tiling((depth, height, width), gaussian=False)
    return predict_logits(tile, tiling, network, channels)


def _contiguous_only(
    run: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    def checked(tiles: np.ndarray) -> np.ndarray:
        assert tiles.flags.c_contiguous
        return run(tiles)

    return checked


@pytest.mark.parametrize("axes", AXES)
def test_mirroring_changes_nothing_for_a_network_that_commutes_with_it(
    axes: tuple[int, ...],
) -> None:
    tile = np.random.default_rng(4).normal(size=(1, 4, 5, 6)).astype(np.float32)
    found = mirrored_logits(blur, tile, axes, 1)
    np.testing.assert_allclose(found, blur(tile[None])[0], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("axes", AXES)
def test_mirroring_is_the_mean_over_all_combinations(axes: tuple[int, ...]) -> None:
    tile = np.random.default_rng(5).normal(size=(1, 4, 5, 6)).astype(np.float32)
    runs: list[np.ndarray] = []
    for chosen in itertools.product(*((False, True) for _ in axes)):
        flips = [axis + 2 for axis, flip in zip(axes, chosen, strict=True) if flip]
        runs.append(np.flip(position_dependent(np.flip(tile[None], flips)), flips)[0])
    found = mirrored_logits(position_dependent, tile, axes, 3)
    np.testing.assert_allclose(found, np.mean(runs, axis=0), rtol=1e-5, atol=1e-6)
    assert len(runs) == 2 ** len(axes)


def test_mirroring_leaves_the_image_and_the_networks_logits_as_they_are() -> None:
    tile = np.random.default_rng(6).normal(size=(1, 2, 3, 4)).astype(np.float32)
    before = tile.copy()
    given_: list[np.ndarray] = []

    def run(tiles: np.ndarray) -> np.ndarray:
        given_.append(tiles.copy())
        return given_[-1]

    mirrored_logits(run, tile, (0, 1, 2), 1)
    np.testing.assert_array_equal(tile, before)
    np.testing.assert_array_equal(given_[0][0], before)
