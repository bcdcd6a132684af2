"""Straightening of tilted series: the straight grid, its intensities, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmaformer.runtime.pipeline.straightening import find_straightening, straightening
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.volume import Affine, Volume

SHAPE = (14, 18, 7)
GRADIENT = np.array([3.0, -2.0, 1.5, 40.0])
"""Intensity = GRADIENT @ (x, y, z, 1): linear interpolation repeats it exactly."""


def tilted(along_x: float, along_y: float, spacing: tuple[float, float, float]) -> Affine:
    """Make an oblique affine whose steps are sheared by millimetres along the first two axes."""
    turn, _ = np.linalg.qr(np.array([[2.0, 0.3, 0.1], [-0.4, 1.5, 0.2], [0.2, -0.3, 1.0]]))
    columns = turn * spacing
    columns[:, 2] += turn[:, 0] * along_x + turn[:, 1] * along_y
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = (-30, 20, 110)
    return affine


def world(affine: Affine, shape: tuple[int, ...]) -> np.ndarray:
    indices = np.stack([*np.indices(shape), np.ones(shape)])
    return np.einsum("ij,jxyz->ixyz", affine, indices)


def phantom(affine: Affine) -> Volume:
    values = np.einsum("i,ixyz->xyz", GRADIENT, world(affine, SHAPE))
    return Volume(values.astype(np.float32)[None], affine)


shears = st.floats(-2.5, 2.5)
spacings = st.tuples(st.floats(0.3, 2), st.floats(0.3, 2), st.floats(0.5, 5))


@given(along_x=shears, along_y=shears, spacing=spacings)
@settings(max_examples=60)
def test_voxels_of_the_straight_grid_show_their_own_place(
    along_x: float, along_y: float, spacing: tuple[float, float, float]
) -> None:
    affine = tilted(along_x, along_y, spacing)
    volume = phantom(affine)
    grid = straightening(affine, SHAPE)
    straight = grid.straight(volume)
    edges = straight.affine[:3, :3] / np.linalg.norm(straight.affine[:3, :3], axis=0)
    np.testing.assert_allclose(edges.T @ edges, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(straight.affine[:3, :2], affine[:3, :2])
    places = world(straight.affine, straight.shape)
    sheared_index = np.einsum("ij,jxyz->ixyz", np.linalg.inv(affine), places)[:3]
    inside = np.ones(straight.shape, bool)
    for index, extent in zip(sheared_index, SHAPE, strict=True):
        inside &= (index >= -1e-6) & (index <= extent - 1 + 1e-6)
    expected = np.einsum("i,ixyz->xyz", GRADIENT, places)
    np.testing.assert_allclose(straight.voxels[0][inside], expected[inside], atol=1e-3)
    assert inside.sum() >= 0.7 * np.prod(SHAPE)


@given(along_x=shears, along_y=shears, spacing=spacings)
@settings(max_examples=60)
def test_labels_come_back_to_the_nearest_voxel(
    along_x: float, along_y: float, spacing: tuple[float, float, float]
) -> None:
    affine = tilted(along_x, along_y, spacing)
    grid = straightening(affine, SHAPE)
    places = world(grid.affine, grid.shape)[:3]
    number = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    back = grid.sheared(number)
    assert back.shape == SHAPE
    found = places.reshape(3, -1)[:, back.ravel()].reshape(3, *SHAPE)
    apart = np.linalg.solve(affine[:3, :3], (found - world(affine, SHAPE)[:3]).reshape(3, -1))
    assert np.abs(apart).max() <= 0.5 + 1e-6
    values = np.einsum("i,ixyz->xyz", GRADIENT, world(grid.affine, grid.shape))
    own = np.einsum("i,ixyz->xyz", GRADIENT, world(affine, SHAPE))
    # A shift that is whole but for a millionth of a voxel is taken to be whole.
    np.testing.assert_allclose(grid.sheared(values), own, atol=2e-5)


def test_shifts_by_whole_voxels_lose_nothing() -> None:
    affine = tilted(0, 3.0, (1, 1.5, 4))
    volume = phantom(affine)
    grid = straightening(affine, SHAPE)
    assert grid.shape == (14, 18 + 2 * 6, 7)
    back = grid.sheared(grid.straight(volume).voxels[0])
    assert np.array_equal(back, volume.voxels[0])


@pytest.mark.parametrize(("name", "gap_mm"), [("ct_tilt_14", 4.8515), ("ct_tilt_minus18", 2.371)])
def test_real_series_are_straightened(name: str, gap_mm: float, data_dir: Path) -> None:
    pytest.importorskip("pydicom")
    volume = read_scan([data_dir / "dicom" / name])
    grid = find_straightening(volume)
    assert grid is not None
    assert np.linalg.norm(grid.affine[:3, 2]) == pytest.approx(gap_mm, abs=1e-3)
    straight = grid.straight(volume).voxels[0]
    assert straight.min() == volume.voxels.min()
    back = grid.sheared(straight)
    assert np.corrcoef(back.ravel(), volume.voxels[0].ravel())[0, 1] > 0.9


def test_other_scans_are_left_alone(data_dir: Path) -> None:
    assert find_straightening(phantom(tilted(1, 1, (1, 1, 2)))) is None
    pytest.importorskip("pydicom")
    assert find_straightening(read_scan([data_dir / "dicom" / "enh_mr_siemens"])) is None


@given(along_x=shears, along_y=shears, spacing=spacings)
@settings(max_examples=40)
def test_labels_come_back_from_the_straight_grid(
    along_x: float, along_y: float, spacing: tuple[float, float, float]
) -> None:
    labels = np.random.default_rng(2).integers(1, 9, SHAPE).astype(np.uint8)
    grid = straightening(tilted(along_x, along_y, spacing), SHAPE)
    straight = grid.straight_labels(labels)
    assert straight.shape == grid.shape
    assert np.count_nonzero(straight) == labels.size
    np.testing.assert_array_equal(grid.sheared(straight), labels)
