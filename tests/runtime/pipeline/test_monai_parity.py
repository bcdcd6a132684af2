"""Tiles as MONAI lays and weighs them, against recorded arrays, see tests/data/README.md."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from support.native.single_functions import tile_weights
from support.networks.tile_logits import predict_logits
from support.scans import parity_cases as cases

from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.pipeline.tiling import tile_boxes, tile_starts
from segmaformer.runtime.spec import Tiling


@cache
def recorded(topic: str) -> dict[str, np.ndarray]:
    with np.load(cases.DATA / "monai" / f"{topic}.npz") as archive:
        return dict(archive)


def test_positions_of_tiles() -> None:
    arrays = recorded("positions")
    expected = np.split(arrays["corners"], np.cumsum(arrays["counts"])[:-1])
    for case, corners in zip(cases.overlap_cases(), expected, strict=True):
        shape, tile, overlap = case
        boxes = tile_boxes(shape, Tiling(tile, step=1 - overlap, scheme="monai"))
        assert [[side.start for side in box] for box in boxes] == corners.tolist(), case
        assert all(
            side.stop - side.start == length
            for box in boxes
            for side, length in zip(box, tile, strict=True)
        )


@pytest.mark.parametrize("name", cases.WEIGHT_TILES)
def test_gaussian_weights(name: str) -> None:
    """Up to a few float32 roundings: exponential functions differ in their last bit."""
    found = tile_weights(Tiling(cases.WEIGHT_TILES[name], scheme="monai"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, recorded("weights")[name], rtol=4 * 2.0**-23)


@pytest.mark.parametrize("key", recorded("blending"))
def test_blended_logits(key: str) -> None:
    """Compare with MONAI, which also sums in float32; the weights' last bits may differ."""
    name, overlap, mode = key.split("/")
    tiling = Tiling(
        cases.BLENDING_TILE, step=1 - float(overlap), gaussian=mode == "gaussian", scheme="monai"
    )
    image = cases.blending_image(cases.BLENDING_SHAPES[name])
    found = predict_logits(image, tiling, TileNetwork(cases.ramp_network), cases.BLENDING_CHANNELS)
    expected = recorded("blending")[key]
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 4 * 2.0**-23 * np.abs(expected).max()


def test_the_schemes_differ() -> None:
    tile = (8, 8, 8)
    nnunet, monai = Tiling(tile), Tiling(tile, scheme="monai")
    assert tile_boxes((8, 8, 13), nnunet) != tile_boxes((8, 8, 13), monai)
    assert not np.allclose(tile_weights(nnunet) / 10, tile_weights(monai), atol=0.01)


@pytest.mark.parametrize(
    ("extent", "tile", "step", "complaint"),
    [
        (7, 8, 0.5, "does not fit 7"),
        (8, 0, 0.5, "a tile of 0 voxels"),
        (8, 8, 0.0, "step is 0.0"),
        (8, 8, 1.5, "step is 1.5"),
    ],
)
def test_impossible_tiles_are_refused(extent: int, tile: int, step: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tile_starts(extent, tile, step, "monai")
