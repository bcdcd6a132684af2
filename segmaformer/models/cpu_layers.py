"""A network's slow layers in forms that train faster on a CPU, with the same parameters.

PyTorch's gradient of a 3-D depthwise convolution has no fast form on CPUs, and its instance norm
copies volumes whose channels come last, as those of tokens do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.layers.tokens import grid_of, to_tokens, to_volume
from segmaformer.models.pyramids.segmaformer import Decoder


class PlaneConv3d(nn.Conv3d):
    """Depthwise 3x3x3 convolution as three 2-D ones, whose planes are shifted and added."""

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Filter (B, C, D, H, W)."""
        batch, _, depth, _, _ = volume.shape
        planes = volume.transpose(1, 2).flatten(0, 1)
        planes = planes.contiguous(memory_format=torch.channels_last)
        below, here, above = (
            F.conv2d(
                planes,
                self.weight[:, :, tap],
                self.bias if tap == 1 else None,
                padding=1,
                groups=self.groups,
            ).unflatten(0, (batch, depth))
            for tap in range(3)
        )
        middle = here.clone()
        middle[:, 1:] += below[:, :-1]
        middle[:, :-1] += above[:, 1:]
        return middle.transpose(1, 2)


class PlainInstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm as one batch norm for each sample, which keeps the layout in memory."""

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, D, H, W)."""
        samples = [
            F.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for sample in volume.split(1)
        ]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


class FoldedDecoder(Decoder):
    """Decoder that fuses each stage on its own grid; a pointwise product commutes with resizing."""

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Turn four (B, C, D, H, W) volumes, finest first, into logits on the finest grid."""
        fusion: Any
        linear: Any
        fusion, norm, activation = self.fuse
        size = features[0].shape[2:]
        fused = None
        weights = fusion.weight.flatten(1).chunk(len(features), dim=1)
        for linear, feature, weight in zip(self.linears, features, weights, strict=True):
            tokens = F.linear(linear.norm(linear.proj(to_tokens(feature))), weight)
            part = to_volume(tokens, grid_of(feature))
            if fused is not None:
                part = F.interpolate(part, size=size, mode="trilinear")
            fused = part if fused is None else fused + part
        hidden = self.dropout(activation(norm(fused)))
        return to_volume(
            F.linear(to_tokens(hidden), self.pred.weight.flatten(1), self.pred.bias),
            grid_of(features[0]),
        )


def speed_up(network: nn.Module) -> nn.Module:
    """Exchange slow layers in place; names and values of parameters stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.groups == module.in_channels > 1:
            module.__class__ = PlaneConv3d
        elif isinstance(module, nn.InstanceNorm3d):
            module.__class__ = PlainInstanceNorm3d
        elif isinstance(module, Decoder):
            module.__class__ = FoldedDecoder
    return network
