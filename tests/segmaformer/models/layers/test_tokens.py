from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from segmaformer.models.layers.tokens import grid_of, to_tokens, to_volume


@given(shape=st.tuples(*[st.integers(1, 4)] * 5))
def test_tokens_follow_width_then_height_then_depth(shape: tuple[int, ...]) -> None:
    batch, channels, depth, height, width = shape
    volume = torch.arange(batch * channels * depth * height * width).view(shape)
    assert grid_of(volume) == (depth, height, width)
    tokens = to_tokens(volume)
    assert tokens.shape == (batch, depth * height * width, channels)
    z, y, x = depth - 1, height // 2, width // 2
    assert torch.equal(tokens[:, (z * height + y) * width + x], volume[:, :, z, y, x])
    assert torch.equal(to_volume(tokens, grid_of(volume)), volume)
