"""Blocks of the U-shaped decoders against plain operators, and what their norms promise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from segmaformer.models.segmamba.monai_blocks import (
    PointwiseMLP,
    PreActivationBlock,
    ResidualBlock,
    UpBlock,
)

brief = settings(max_examples=20)
grids = st.tuples(*[st.integers(2, 5)] * 3)
widths = st.integers(1, 5)
seeds = st.integers(0, 1000)


def instance_norm(volume: torch.Tensor) -> torch.Tensor:
    flat = volume.flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    return (flat / (flat.square().mean(2, keepdim=True) + 1e-5).sqrt()).view_as(volume)


@brief
@given(grid=grids, before=widths, after=widths, seed=seeds)
def test_the_shortcut_is_projected_where_channels_change(
    grid: tuple[int, int, int], before: int, after: int, seed: int
) -> None:
    torch.manual_seed(seed)
    block = ResidualBlock(before, after).double()
    weights = block.state_dict()
    assert ("conv3.conv.weight" in weights) == (before != after)
    volume = torch.randn(2, before, *grid, dtype=torch.float64)
    hidden = instance_norm(F.conv3d(volume, weights["conv1.conv.weight"], padding=1))
    hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
    hidden = instance_norm(F.conv3d(hidden, weights["conv2.conv.weight"], padding=1))
    shortcut = volume
    if before != after:
        shortcut = instance_norm(F.conv3d(volume, weights["conv3.conv.weight"]))
    expected = hidden + shortcut
    expected = torch.where(expected > 0, expected, 0.01 * expected)
    with torch.inference_mode():
        torch.testing.assert_close(block(volume), expected)


@brief
@given(grid=grids, width=widths, gain=st.floats(0.1, 10), seed=seeds)
def test_the_scale_of_a_projected_input_is_lost(
    grid: tuple[int, int, int], width: int, gain: float, seed: int
) -> None:
    """Both paths end in norms; with an identity beside them the scale stays."""
    torch.manual_seed(seed)
    volume = 100 * torch.randn(1, width, *grid, dtype=torch.float64)
    projected, plain = ResidualBlock(width, width + 1), ResidualBlock(width, width)
    with torch.inference_mode():
        one, other = (projected.double()(factor * volume) for factor in (1, gain))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        one, other = (plain.double()(factor * volume) for factor in (1, 3))
        assert float((one - other).abs().max()) > 1


@brief
@given(grid=grids, coarse=widths, fine=widths, seed=seeds)
def test_an_up_block_joins_the_doubled_volume_before_the_skip(
    grid: tuple[int, int, int], coarse: int, fine: int, seed: int
) -> None:
    torch.manual_seed(seed)
    block = UpBlock(coarse, fine).double()
    volume = torch.randn(1, coarse, *grid, dtype=torch.float64)
    skip = torch.randn(1, fine, *(2 * n for n in grid), dtype=torch.float64)
    kernel = block.state_dict()["transp_conv.conv.weight"]  # (coarse, fine, 2, 2, 2)
    doubled = torch.einsum("bcdhw,cfxyz->bfdxhywz", volume, kernel).reshape(skip.shape)
    with torch.inference_mode():
        expected = block.conv_block(torch.cat((doubled, skip), dim=1))
        torch.testing.assert_close(block(volume, skip), expected)


@brief
@given(grid=grids, groups=st.integers(1, 3), per_group=st.integers(1, 3), seed=seeds)
def test_norms_come_before_the_convolutions(
    grid: tuple[int, int, int], groups: int, per_group: int, seed: int
) -> None:
    torch.manual_seed(seed)
    channels = groups * per_group
    block = PreActivationBlock(channels, groups=groups).double()
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    volume = torch.randn(2, channels, *grid, dtype=torch.float64)

    def group_norm(x: torch.Tensor, norm: torch.nn.GroupNorm) -> torch.Tensor:
        per = instance_norm(x.reshape(2, groups, -1, 1, 1)).view_as(x)
        scale, shift = (p.view(1, -1, 1, 1, 1) for p in (norm.weight, norm.bias))
        return scale * per + shift

    with torch.inference_mode():
        hidden = block.conv1(group_norm(volume, block.norm1).clamp(min=0))
        hidden = block.conv2(group_norm(hidden, block.norm2).clamp(min=0))
        torch.testing.assert_close(block(volume), hidden + volume)


@brief
@given(grid=grids, width=widths, ratio=st.integers(1, 3), seed=seeds)
def test_a_pointwise_mlp_sees_one_voxel_at_a_time(
    grid: tuple[int, int, int], width: int, ratio: int, seed: int
) -> None:
    torch.manual_seed(seed)
    mlp = PointwiseMLP(width, ratio).double()
    assert sum(p.numel() for p in mlp.parameters()) == (2 * width * ratio + 1) * width + (
        width * ratio
    )
    volume = torch.randn(1, width, *grid, dtype=torch.float64)
    voxels = volume.flatten(2)[0].T.reshape(-1, width, 1, 1, 1)
    with torch.inference_mode():
        one_by_one = mlp(voxels).reshape(-1, width).T.reshape(volume.shape)
        torch.testing.assert_close(mlp(volume), one_by_one)
