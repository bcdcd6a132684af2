"""Blocks of U-Mamba, on any grid."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.layers.mamba import Mamba
from segmaformer.models.planned_unets.nnunet_blocks import BlockStyle
from segmaformer.models.planned_unets.umamba_blocks import ChannelLayer, ProjectedBlock, Upsample

STYLE = BlockStyle(bias=True, eps=1e-5)
grids = st.tuples(*[st.integers(2, 6)] * 3)
odd = st.tuples(*[st.sampled_from([1, 3])] * 3)
strides = st.tuples(*[st.integers(1, 2)] * 3)
widths = st.integers(1, 4)
seeds = st.integers(0, 1000)
brief = settings(max_examples=15, deadline=None)


@brief
@given(grid=grids, kernel=odd, stride=strides, before=widths, after=widths, seed=seeds)
def test_a_projected_block_is_its_definition(
    grid: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    before: int,
    after: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    grid = tuple(2 * extent for extent in grid)
    block = ProjectedBlock(before, after, list(kernel), stride=list(stride), style=STYLE)
    volume = torch.randn(2, before, *grid)

    def normed(features: torch.Tensor) -> torch.Tensor:
        mean, std = features.mean((2, 3, 4), True), features.var((2, 3, 4), False, keepdim=True)
        return (features - mean) / (std + STYLE.eps).sqrt()

    with torch.inference_mode():
        hidden = STYLE.activate(normed(block.conv1(volume)))
        short = volume[..., :: stride[0], :: stride[1], :: stride[2]]
        short = torch.einsum("ncdhw,kc->nkdhw", short, block.conv3.weight.flatten(1))
        short = short + block.conv3.bias.view(-1, 1, 1, 1)
        expected = STYLE.activate(normed(block.conv2(hidden)) + short)
        torch.testing.assert_close(block(volume), expected, rtol=1e-4, atol=1e-4)


@brief
@given(grid=st.tuples(*[st.integers(1, 3)] * 3), channels=st.integers(1, 6), seed=seeds)
def test_later_channels_do_not_reach_earlier_ones(
    grid: tuple[int, ...], channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    voxels = grid[0] * grid[1] * grid[2]
    layer = ChannelLayer(voxels, Mamba(voxels, d_state=2, d_conv=2, expand=1))
    volume = torch.randn(1, channels, *grid)
    changed = volume.clone()
    changed[:, -1] = torch.randn(*grid)
    with torch.inference_mode():
        before, after = layer(volume), layer(changed)
    assert after.shape == volume.shape
    torch.testing.assert_close(after[:, :-1], before[:, :-1])


@brief
@given(grid=grids, factors=strides, before=widths, after=widths, seed=seeds)
def test_every_voxel_of_an_enlarged_block_is_its_source(
    grid: tuple[int, ...], factors: tuple[int, ...], before: int, after: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = Upsample(before, after, list(factors))
    volume = torch.randn(1, before, *grid)
    with torch.inference_mode():
        small, large = layer.conv(volume), layer(volume)
    for axis, factor in enumerate(factors):
        small = small.repeat_interleave(factor, dim=2 + axis)
    assert torch.equal(large, small)
