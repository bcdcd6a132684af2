from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from support.packages.samples import head_like, write_scan

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.parity.tiles import _blur, phantom_tiles, tiles_from_scan
from segmaformer.runtime.pipeline.preprocessing import preprocess
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.spec import Normalization, Preprocessing, Tiling, Triple

ZSCORE = Normalization("zscore")
CT = Normalization("ct", mean=60.0, std=120.0, lower=-200.0, upper=300.0)
TILE = (24, 20, 28)


def test_phantoms_have_the_shape_and_type_of_tiles() -> None:
    tiles = phantom_tiles([ZSCORE, ZSCORE], TILE, count=3)
    assert tiles.shape == (3, 2, *TILE)
    assert tiles.dtype == np.float32
    assert np.isfinite(tiles).all()


def test_phantoms_are_the_same_each_time_and_differ_from_one_another() -> None:
    tiles = phantom_tiles([ZSCORE, ZSCORE], TILE)
    np.testing.assert_array_equal(tiles, phantom_tiles([ZSCORE, ZSCORE], TILE))
    assert (tiles[0] != tiles[1]).any()
    assert (tiles[:, 0] != tiles[:, 1]).any()
    assert (tiles != phantom_tiles([ZSCORE, ZSCORE], TILE, seed=1)).any()


def test_zscored_phantoms_have_mean_zero_and_deviation_one() -> None:
    for channel in phantom_tiles([ZSCORE] * 2, TILE).reshape(-1, np.prod(TILE)):
        assert channel.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
        assert channel.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_phantoms_have_flat_background_contrast_and_texture() -> None:
    (tile,) = phantom_tiles([ZSCORE], (32, 32, 32), count=1)[0]
    background = tile == np.median(tile[tile == tile[0, 0, 0]])
    assert 0.05 < background.mean() < 0.8
    neighbours = np.abs(np.diff(tile, axis=2))
    white_noise = np.abs(np.diff(np.random.default_rng(0).normal(size=tile.shape), axis=2))
    assert 0.005 < neighbours.mean() < 0.3 * white_noise.mean()
    assert np.ptp(tile[~background]) > 1


@pytest.mark.parametrize(
    "scaling",
    [ZSCORE, Normalization("zscore", use_mask=True), CT, Normalization("rescale01")],
    ids=lambda scaling: f"{scaling.scheme}-{scaling.use_mask}",
)
@pytest.mark.parametrize("tile", [(32, 32, 32), (12, 48, 48)])
def test_more_than_half_of_every_phantom_is_flat(scaling: Normalization, tile: Triple) -> None:
    for channel in phantom_tiles([scaling] * 2, tile).reshape(-1, np.prod(tile)):
        assert (channel == channel[0]).mean() > 0.5


def test_air_lies_at_the_lower_end_of_the_window_of_ct() -> None:
    (tile,) = phantom_tiles([CT], TILE)[1]
    assert tile[0, 0, 0] == tile.min() == pytest.approx((-200 - 60) / 120)


def test_the_phantom_that_packages_hold_the_answer_to_stays_what_it_was() -> None:
    found = [
        phantom_tiles([scaling], (8, 8, 8), count=1)[0, 0, 4, 4, 3] for scaling in (ZSCORE, CT)
    ]
    np.testing.assert_allclose(found, 1.58184, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 24, 33), (1, 200, 90), (3, 2, 5)])
@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_texture_is_blurred_as_scipy_does(shape: Triple, sigma: float) -> None:
    noise = np.random.default_rng(0).standard_normal(shape)
    # SciPy may round a product and a sum once where it is compiled for another processor.
    exact = platform.machine() in ("x86_64", "AMD64")
    expected = ndimage.gaussian_filter(noise, sigma)
    np.testing.assert_allclose(
        _blur(noise, sigma), expected, rtol=0 if exact else 1e-12, atol=0 if exact else 1e-14
    )


def test_a_zscore_within_a_mask_leaves_the_background_at_zero() -> None:
    (tile,) = phantom_tiles([Normalization("zscore", use_mask=True)], TILE, count=1)[0]
    assert 0.05 < (tile == 0).mean() < 0.9
    inside = tile[tile != 0]
    assert inside.std(dtype=np.float64) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("normalization", "low", "high"),
    [
        (CT, (-200 - 60) / 120, (300 - 60) / 120),
        (Normalization("rescale01"), 0, 1),
        (Normalization("rgb01"), 0, 1),
        (Normalization("none"), -6, 6),
    ],
)
def test_phantoms_lie_in_the_range_of_their_normalisation(
    normalization: Normalization, low: float, high: float
) -> None:
    tiles = phantom_tiles([normalization], TILE)
    assert tiles.min() >= low - 1e-6
    assert tiles.max() <= high + 1e-6
    assert np.ptp(tiles) > 0.5 * min(high - low, 4)


def test_tiles_of_a_scan_are_parts_of_it_as_the_network_sees_it(tmp_path: Path) -> None:
    spec = Preprocessing(("T1",), (ZSCORE,), spacing=(1.0, 1.0, 1.0))
    scan = write_scan(tmp_path / "scan.nii.gz", head_like((40, 30, 36)), np.diag([1.5, 1, 1, 1]))
    tiling = Tiling((16, 16, 16))
    tiles = tiles_from_scan([scan], spec, tiling, count=3)
    assert tiles.shape == (3, 1, 16, 16, 16)
    image = preprocess(read_scan([scan]), spec).image
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (16, 16, 16))
    np.testing.assert_array_equal(tiles[0, 0], windows[0, 0, 0])
    np.testing.assert_array_equal(tiles[-1, 0], windows[-1, -1, -1])
    assert any((tiles[1, 0] == window).all() for window in windows.reshape(-1, 16, 16, 16))


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (4, 4), (100, 27)])
def test_no_more_tiles_are_taken_than_there_are(tmp_path: Path, count: int, expected: int) -> None:
    spec = Preprocessing(("T1",), (ZSCORE,))
    scan = write_scan(tmp_path / "scan.nii", head_like((16, 16, 16)) + np.float32(1))
    assert len(tiles_from_scan([scan], spec, Tiling((8, 8, 8)), count=count)) == expected


def test_a_scan_smaller_than_a_tile_is_padded(tmp_path: Path) -> None:
    spec = Preprocessing(("T1",), (ZSCORE,))
    scan = write_scan(tmp_path / "scan.nii", head_like((9, 10, 11)) + np.float32(1))
    tiles = tiles_from_scan([scan], spec, Tiling((16, 16, 16)))
    assert tiles.shape == (1, 1, 16, 16, 16)
    assert np.count_nonzero(tiles) <= 9 * 10 * 11


def test_channels_are_files_in_order(tmp_path: Path) -> None:
    spec = Preprocessing(("T1", "T2"), (ZSCORE, ZSCORE))
    paths = [write_scan(tmp_path / f"{s}.nii", head_like((8, 8, 8), seed=s) + 1) for s in (1, 2)]
    tiles = tiles_from_scan(paths, spec, Tiling((8, 8, 8)))
    assert tiles.shape == (1, 2, 8, 8, 8)
    np.testing.assert_array_equal(
        tiles[:, ::-1], tiles_from_scan(paths[::-1], spec, Tiling((8, 8, 8)))
    )
    with pytest.raises(InputError, match="2 channels"):
        tiles_from_scan(paths[:1], spec, Tiling((8, 8, 8)))
