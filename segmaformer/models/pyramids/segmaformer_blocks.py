"""Encoder blocks of SegMaFormer, one class for each family of block types."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.layers.mamba import Mamba
from segmaformer.models.layers.tokens import Grid, grid_of, to_tokens, to_volume
from segmaformer.models.pyramids.attention import Attention, MixFFN

MIXER_TYPES = ("mamba", "hybrid", "conv")
PREREDUCE_TYPES = ("mamba_prereduce", "hybrid_prereduce")
BLOCK_TYPES = (*MIXER_TYPES, "attention", *PREREDUCE_TYPES)


class AttentionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, channels: int, *, heads: int, sr_ratio: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = Attention(channels, heads=heads, sr_ratio=sr_ratio)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MixFFN(channels, mlp_ratio)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Transform (B, N, C) tokens on their `grid`; returns the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens), grid)
        return tokens + self.mlp(self.norm2(tokens), grid)


class MambaBranch(nn.Module):
    """Mixer under the key ``block``, as in the published checkpoints."""

    def __init__(self, channels: int, *, d_state: int, d_conv: int, expand: int):
        super().__init__()
        self.block = Mamba(channels, d_state=d_state, d_conv=d_conv, expand=expand)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix (B, N, C) tokens in raster order; returns the same shape."""
        mixed: torch.Tensor = self.block(tokens)
        return mixed


class ConvBranch(nn.Module):
    """Depthwise convolution, instance norm, GELU and a pointwise convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.dw = nn.Conv3d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.InstanceNorm3d(channels, affine=True)
        self.pw = nn.Conv3d(channels, channels, 1, bias=False)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Filter (B, N, C) tokens on their `grid`; returns the same shape."""
        volume = self.dw(to_volume(tokens, grid))
        return to_tokens(self.pw(F.gelu(self.norm(volume))))


class MixerBlock(nn.Module):
    """Mamba, convolution or both, gated; layer scale on either residual.

    Parameters
    ----------
    channels
        Number of features of a token.
    kind
        ``mamba``, ``conv``, ``hybrid``, ``mamba_prereduce`` or ``hybrid_prereduce``.
    sr_ratio
        Only for the ``prereduce`` kinds: both residual branches then work on a
        grid coarser by this factor and are brought back by trilinear interpolation.
    mlp_ratio
        Hidden width of the Mix-FFN over `channels`.
    d_state, d_conv, expand
        See :class:`segmaformer.models.layers.mamba.Mamba`.
    use_gate
        Whether ``hybrid`` weighs its branches by a learned gate; otherwise it averages them.
    """

    def __init__(
        self,
        channels: int,
        *,
        kind: str,
        sr_ratio: int,
        mlp_ratio: float,
        d_state: int,
        d_conv: int,
        expand: int,
        use_gate: bool,
    ):
        super().__init__()
        family = kind.removesuffix("_prereduce")
        self.norm1 = nn.LayerNorm(channels)
        if kind in PREREDUCE_TYPES and sr_ratio > 1:
            self.prereduce = nn.Conv3d(channels, channels, sr_ratio, stride=sr_ratio)
            self.prereduce_norm = nn.LayerNorm(channels)
        if family != "conv":
            self.mamba = MambaBranch(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        if family != "mamba":
            self.conv_branch = ConvBranch(channels)
        if family == "hybrid" and use_gate:
            self.gate = nn.Sequential(nn.Linear(2 * channels, channels), nn.Sigmoid())
        self.fuse = nn.Linear(channels, channels)
        self.gamma1 = nn.Parameter(torch.full((channels,), 1e-4))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MixFFN(channels, mlp_ratio)
        self.gamma2 = nn.Parameter(torch.full((channels,), 1e-4))

    def _reduce(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        if not hasattr(self, "prereduce"):
            return tokens, grid
        volume = self.prereduce(to_volume(tokens, grid))
        return self.prereduce_norm(to_tokens(volume)), grid_of(volume)

    def _restore(self, tokens: torch.Tensor, coarse: Grid, grid: Grid) -> torch.Tensor:
        if not hasattr(self, "prereduce"):
            return tokens
        return to_tokens(F.interpolate(to_volume(tokens, coarse), size=grid, mode="trilinear"))

    def _mix(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        if not hasattr(self, "conv_branch"):
            mixed: torch.Tensor = self.mamba(tokens)
            return mixed
        convolved: torch.Tensor = self.conv_branch(tokens, grid)
        if not hasattr(self, "mamba"):
            return convolved
        scanned = self.mamba(tokens)
        if not hasattr(self, "gate"):
            return (scanned + convolved) / 2
        weight = self.gate(torch.cat((scanned, convolved), dim=-1))
        return weight * scanned + (1 - weight) * convolved

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Transform (B, N, C) tokens on their `grid`; returns the same shape."""
        reduced, coarse = self._reduce(self.norm1(tokens), grid)
        mixed = self.fuse(self._mix(reduced, coarse))
        tokens = tokens + self.gamma1 * self._restore(mixed, coarse, grid)
        reduced, coarse = self._reduce(self.norm2(tokens), grid)
        return tokens + self.gamma2 * self._restore(self.mlp(reduced, coarse), coarse, grid)
