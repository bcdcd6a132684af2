from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.pyramids.rope import rotary_tables, rotate


def rotated_voxel(values: np.ndarray, position: tuple[int, int, int], theta: float) -> np.ndarray:
    """Rotate one voxel's channels, pair by pair."""
    half = values.size // 6
    result = values.copy()
    for axis, index in enumerate(position):
        for j in range(half):
            first, second = 2 * axis * half + j, (2 * axis + 1) * half + j
            angle = index / theta ** (j / half)
            u, v = values[first], values[second]
            result[first] = u * np.cos(angle) - v * np.sin(angle)
            result[second] = u * np.sin(angle) + v * np.cos(angle)
    return result


@pytest.mark.parametrize("theta", [1e4, 100.0])
@pytest.mark.parametrize("channels", [6, 12, 36, 66, 16, 5])
def test_each_pair_turns_by_its_own_angle(channels: int, theta: float) -> None:
    volume = torch.randn(2, 3, 4, 5, channels, dtype=torch.float64)
    found = rotate(volume, theta=theta).numpy()
    for position in ((0, 0, 0), (2, 0, 0), (0, 3, 0), (0, 0, 4), (2, 3, 4)):
        for entry in range(2):
            at = (entry, *position)
            expected = rotated_voxel(volume[at].numpy(), position, theta)
            np.testing.assert_allclose(found[at], expected, atol=1e-5)


def test_origin_and_surplus_channels_stay() -> None:
    volume = torch.randn(1, 2, 2, 2, 16)
    turned = rotate(volume)
    torch.testing.assert_close(turned[:, 0, 0, 0], volume[:, 0, 0, 0])
    torch.testing.assert_close(turned[..., 12:], volume[..., 12:])


def test_length_is_kept() -> None:
    volume = torch.randn(1, 5, 6, 7, 36)
    torch.testing.assert_close(rotate(volume).norm(dim=-1), volume.norm(dim=-1))


def test_fewer_than_six_channels_stay() -> None:
    volume = torch.randn(1, 2, 3, 4, 5)
    assert torch.equal(rotate(volume), volume)


def test_tables_are_float32_for_any_input() -> None:
    cos, sin = rotary_tables((2, 3, 4), 36)
    assert cos.shape == sin.shape == (2, 3, 4, 36)
    assert cos.dtype == sin.dtype == torch.float32
    assert rotate(torch.zeros(1, 2, 3, 4, 36, dtype=torch.float16)).dtype == torch.float32


grids = st.tuples(*[st.integers(1, 6)] * 3)
channels = st.integers(6, 40)
seeds = st.integers(0, 1000)
brief = settings(max_examples=20, deadline=None)


@brief
@given(grid=grids, channels=channels, seed=seeds, data=st.data())
def test_inner_products_depend_on_the_distance_alone(
    grid: tuple[int, int, int], channels: int, seed: int, data: st.DataObject
) -> None:
    """Two tokens moved by the same steps have the same inner product, what positions are for."""
    torch.manual_seed(seed)
    tokens = torch.randn(2, channels, dtype=torch.float64)
    whole = tokens.view(2, 1, 1, 1, -1).expand(2, *grid, -1)
    turned = rotate(whole)
    places = [tuple(data.draw(st.integers(0, n - 1)) for n in grid) for _ in range(2)]
    steps = [data.draw(st.integers(-min(a, b), n - 1 - max(a, b)))
             for a, b, n in zip(*places, grid, strict=True)]  # fmt: skip
    moved = [tuple(at + step for at, step in zip(place, steps, strict=True)) for place in places]
    before = turned[0][places[0]] @ turned[1][places[1]]
    after = turned[0][moved[0]] @ turned[1][moved[1]]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * channels)


@brief
@given(grid=grids, channels=channels, seed=seeds)
def test_a_part_of_the_volume_turns_as_in_the_whole(
    grid: tuple[int, int, int], channels: int, seed: int
) -> None:
    """Positions count from the first voxel, so a crop from there changes nothing."""
    torch.manual_seed(seed)
    volume = torch.randn(1, *grid, channels)
    depth, height, width = (-(-extent // 2) for extent in grid)
    part = volume[:, :depth, :height, :width]
    torch.testing.assert_close(rotate(part), rotate(volume)[:, :depth, :height, :width])
