"""Attention and Mix-FFN against their definitions in NumPy, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

torch = pytest.importorskip("torch")

from segmaformer.models.pyramids.attention import Attention, MixFFN

brief = settings(max_examples=25)
grids = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 4))
seeds = st.integers(0, 1000)


def weights_of(module: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.double().state_dict().items()}


def linear(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0))


def attended(tokens: np.ndarray, source: np.ndarray, weights: Any, heads: int) -> np.ndarray:
    """Attend from (N, C) tokens to (M, C) others, head by head."""
    width = tokens.shape[1] // heads
    queries = linear(tokens, weights, "query")
    keys, values = np.split(linear(source, weights, "key_value"), 2, axis=1)
    mixed = np.empty_like(tokens)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = queries[:, part] @ keys[:, part].T / np.sqrt(width)
        mixed[:, part] = special.softmax(scores, axis=1) @ values[:, part]
    return linear(mixed, weights, "proj")


@brief
@given(grid=grids, heads=st.integers(1, 3), width=st.integers(1, 4), bias=st.booleans(), seed=seeds)
def test_attention_is_its_definition(
    grid: tuple[int, int, int], heads: int, width: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = Attention(heads * width, heads=heads, qkv_bias=bias)
    weights = weights_of(layer)
    tokens = torch.randn(2, int(np.prod(grid)), heads * width, dtype=torch.float64)
    with torch.inference_mode():
        found = layer(tokens, grid).numpy()
    expected = [attended(x, x, weights, heads) for x in tokens.numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@brief
@given(
    coarse=st.tuples(*[st.integers(1, 3)] * 3),
    ratio=st.integers(2, 3),
    heads=st.integers(1, 2),
    seed=seeds,
)
def test_keys_come_from_a_coarser_grid(
    coarse: tuple[int, int, int], ratio: int, heads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    channels, grid = 4 * heads, tuple(n * ratio for n in coarse)
    layer = Attention(channels, heads=heads, sr_ratio=ratio)
    weights = weights_of(layer)
    tokens = torch.randn(1, int(np.prod(grid)), channels, dtype=torch.float64)
    x = tokens[0].numpy()
    blocks = x.reshape(*(part for n in coarse for part in (n, ratio)), channels)
    blocks = blocks.transpose(0, 2, 4, 6, 1, 3, 5).reshape(int(np.prod(coarse)), -1)
    reduced = blocks @ weights["sr.weight"].reshape(channels, -1).T + weights["sr.bias"]
    reduced -= reduced.mean(axis=1, keepdims=True)
    reduced /= np.sqrt(reduced.var(axis=1, keepdims=True) + layer.sr_norm.eps)
    with torch.inference_mode():
        found = layer(tokens, grid)[0].numpy()
    expected = attended(x, reduced, weights, heads)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@brief
@given(grid=grids, heads=st.integers(1, 3), seed=seeds)
def test_attention_does_not_know_the_order_of_tokens(
    grid: tuple[int, int, int], heads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = Attention(3 * heads, heads=heads).double()
    tokens = torch.randn(2, int(np.prod(grid)), 3 * heads, dtype=torch.float64)
    order = torch.randperm(tokens.shape[1])
    with torch.inference_mode():
        torch.testing.assert_close(layer(tokens[:, order], grid), layer(tokens, grid)[:, order])


@brief
@given(grid=grids, channels=st.integers(1, 4), ratio=st.sampled_from([1, 1.5, 2, 3]), seed=seeds)
def test_mix_ffn_is_its_definition(
    grid: tuple[int, int, int], channels: int, ratio: float, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = MixFFN(channels, ratio)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    weights = weights_of(layer)
    tokens = torch.randn(1, int(np.prod(grid)), channels, dtype=torch.float64)
    hidden = linear(tokens[0].numpy(), weights, "fc1")
    assert hidden.shape[1] == int(channels * ratio)
    for index in range(hidden.shape[1]):
        kernel = weights["dwconv.dwconv.weight"][index, 0]
        volume = ndimage.correlate(hidden[:, index].reshape(grid), kernel, mode="constant")
        volume += weights["dwconv.dwconv.bias"][index]
        volume = (volume - volume.mean()) / np.sqrt(volume.var() + layer.dwconv.bn.eps)
        volume = weights["dwconv.bn.weight"][index] * volume + weights["dwconv.bn.bias"][index]
        hidden[:, index] = (volume * special.ndtr(volume)).ravel()  # GELU
    with torch.inference_mode():
        found = layer(tokens, grid)[0].numpy()
    np.testing.assert_allclose(found, linear(hidden, weights, "fc2"), rtol=1e-8, atol=1e-10)


@given(channels=st.integers(2, 64), data=st.data())
def test_heads_that_do_not_divide_the_channels_are_refused(
    channels: int, data: st.DataObject
) -> None:
    heads = data.draw(st.integers(2, 70).filter(lambda count: channels % count))
    with pytest.raises(ValueError, match=f"{channels} channels cannot be divided over {heads}"):
        Attention(channels, heads=heads)
