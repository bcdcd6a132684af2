"""Blocks of nnU-Net's U-Nets: shapes, numbers of parameters, shortcuts and skip connections."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from segmaformer.models.planned_unets.nnunet_blocks import (
    BasicBlock,
    BlockStyle,
    ConvNorm,
    ConvStage,
    Decoder,
    ResidualStage,
    downsampling,
)

brief = settings(max_examples=25)
kernels = st.tuples(*[st.sampled_from([1, 3])] * 3)
strides = st.tuples(*[st.integers(1, 2)] * 3)
grids = st.tuples(*[st.integers(2, 4)] * 3)
widths = st.integers(1, 4)
styles = st.builds(
    BlockStyle,
    bias=st.booleans(),
    eps=st.sampled_from([1e-5, 1e-3]),
    norm=st.sampled_from(["instance", "batch"]),
    slope=st.sampled_from([0.0, 0.01, 0.2]),
)
seeds = st.integers(0, 1000)


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_volume(channels: int, grid: tuple[int, ...], seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(1, channels, *grid, dtype=torch.float64)


def normed(module: ConvNorm, volume: torch.Tensor, style: BlockStyle) -> torch.Tensor:
    """Convolve and normalise by plain operators, with the style's own epsilon."""
    kernel = module.conv.weight
    padding = [n // 2 for n in kernel.shape[2:]]
    convolved = F.conv3d(volume, kernel, module.conv.bias, module.conv.stride, padding)
    if style.norm == "batch":  # its running mean is 0 and its variance 1 before any training
        return convolved / math.sqrt(1 + style.eps)
    flat = convolved.flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    flat = flat / (flat.square().mean(2, keepdim=True) + style.eps).sqrt()
    return flat.view_as(convolved)


def activated(volume: torch.Tensor, style: BlockStyle) -> torch.Tensor:
    return torch.where(volume > 0, volume, style.slope * volume)


@brief
@given(
    before=widths,
    after=widths,
    kernel=kernels,
    stride=strides,
    grid=grids,
    style=styles,
    seed=seeds,
)
def test_a_block_adds_what_it_averaged_and_projected(
    before: int,
    after: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    grid: tuple[int, int, int],
    style: BlockStyle,
    seed: int,
) -> None:
    block = BasicBlock(before, after, kernel, stride=stride, style=style).double().eval()
    volume = random_volume(
        before, tuple(2 * n * s for n, s in zip(grid, stride, strict=True)), seed
    )
    hidden = activated(normed(block.conv1, volume, style), style)
    hidden = normed(block.conv2, hidden, style)
    shortcut = volume
    if max(stride) > 1:
        shortcut = F.avg_pool3d(volume, stride, stride)
    if before != after:
        assert block.skip[-1].conv.bias is None
        shortcut = normed(block.skip[-1], shortcut, style)
    with torch.inference_mode():
        torch.testing.assert_close(block(volume), activated(hidden + shortcut, style))


@brief
@given(
    kind=st.sampled_from([ConvStage, ResidualStage]),
    before=widths,
    after=widths,
    kernel=kernels,
    depth=st.integers(1, 3),
    style=styles,
)
def test_numbers_of_parameters(
    kind: type[ConvStage] | type[ResidualStage],
    before: int,
    after: int,
    kernel: tuple[int, int, int],
    depth: int,
    style: BlockStyle,
) -> None:
    voxels, each = math.prod(kernel), (2 + style.bias) * after
    first, other = (voxels * width * after + each for width in (before, after))
    expected = first + (depth - 1) * other
    if kind is ResidualStage:
        projection = before * after + 2 * after if before != after else 0
        expected += depth * other + projection
    assert count(kind(before, after, kernel, depth=depth, style=style)) == expected


def small_config(factors: list[list[int]], features: list[int]) -> dict[str, Any]:
    stages = len(features)
    return {
        "features_per_stage": features,
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *factors],
        "num_classes": 2,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }


@brief
@given(
    factors=st.lists(st.lists(st.integers(1, 2), min_size=3, max_size=3), min_size=1, max_size=3),
    data=st.data(),
    seed=seeds,
)
def test_every_skip_connection_reaches_the_logits(
    factors: list[list[int]], data: st.DataObject, seed: int
) -> None:
    """And a decoder gives logits on the grid of the finest."""
    stages = len(factors) + 1
    features = [data.draw(st.integers(1, 4)) for _ in range(stages)]
    style = BlockStyle(bias=True, eps=1e-5, slope=0.1)
    decoder = Decoder(small_config(factors, features), stage=ConvStage, style=style).double()
    finest = [2 * n for n in downsampling(factors)]
    grids = [finest]
    for factor in factors:
        grids.append([n // f for n, f in zip(grids[-1], factor, strict=True)])
    volumes = [
        random_volume(width, tuple(grid), seed + index).requires_grad_()
        for index, (width, grid) in enumerate(zip(features, grids, strict=True))
    ]
    logits = decoder(volumes)
    assert logits.shape == (1, 2, *finest)
    gradients = torch.autograd.grad(logits.square().sum(), volumes)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


@given(steps=st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=3), max_size=6))
def test_downsampling_multiplies_along_each_axis(steps: list[list[int]]) -> None:
    found = downsampling(steps)
    assert found == tuple(math.prod(step[axis] for step in steps) for axis in range(3))
    assert downsampling([*steps, [2, 1, 3]]) == (2 * found[0], found[1], 3 * found[2])
