"""Layers of the Taming Mambas networks, on any grid."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.layers.tokens import to_tokens, to_volume
from segmaformer.models.planned_unets.taming_blocks import (
    FourOrdersLayer,
    MambaBlock,
    RasterLayer,
    TwoWayMambaBlock,
)

SIZES = {"d_state": 2, "d_conv": 3, "expand": 1}
grids = st.tuples(*[st.integers(1, 4)] * 3)
widths = st.integers(1, 5)
seeds = st.integers(0, 1000)
brief = settings(max_examples=15, deadline=None)


def mixer(channels: int) -> MambaBlock:
    return MambaBlock(channels, **SIZES)


@brief
@given(grid=grids, channels=widths, seed=seeds)
def test_four_orders_are_four_turned_volumes(
    grid: tuple[int, int, int], channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = FourOrdersLayer(channels, mixer)
    volume = torch.randn(2, channels, *grid)
    with torch.inference_mode():
        turned = []
        for each, order in zip(layer.mambas, layer.ORDERS, strict=True):
            axes = [2 + axis for axis in order]
            moved = volume.permute(0, 1, *axes)
            mixed = to_volume(each(to_tokens(moved)), moved.shape[2:])
            turned.append(mixed.permute(0, 1, *(2 + order.index(axis) for axis in range(3))))
        torch.testing.assert_close(layer(volume), torch.stack(turned).mean(0))


@brief
@given(length=st.integers(1, 12), channels=widths, seed=seeds)
def test_exchanged_directions_turn_the_sequence_around(
    length: int, channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    block, exchanged = (TwoWayMambaBlock(channels, **SIZES) for _ in range(2))
    exchanged.fwd_mamba.load_state_dict(block.bwd_mamba.state_dict())
    exchanged.bwd_mamba.load_state_dict(block.fwd_mamba.state_dict())
    exchanged.norm.load_state_dict(block.norm.state_dict())
    tokens = torch.randn(2, length, channels)
    with torch.inference_mode():
        torch.testing.assert_close(exchanged(tokens.flip(1)), block(tokens).flip(1))


@brief
@given(grid=grids, channels=st.integers(2, 5), gain=st.floats(0.5, 5), seed=seeds)
def test_a_raster_layer_does_not_see_contrast(
    grid: tuple[int, int, int], channels: int, gain: float, seed: int
) -> None:
    """Its norm takes each voxel's features alone, so a common gain and offset are lost."""
    torch.manual_seed(seed)
    layer = RasterLayer(channels, mixer).double()
    layer.norm.eps = 0.0
    volume = torch.randn(1, channels, *grid, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(layer(gain * volume + 1), layer(volume))
