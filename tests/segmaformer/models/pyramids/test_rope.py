from __future__ import annotations

import numpy as np
import pytest

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
