"""The mean of several networks, as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Ensemble(nn.Module):
    """Networks of one kind whose logits are averaged.

    A sliding window sums weighted logits and divides, both of which commute with the mean: a
    scan's logits are those of nnU-Net, which averages after the window.

    Parameters
    ----------
    models
        At least one, all with the same inputs and outputs.
    """

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> mean logits (B, classes, D, H, W)."""
        first, *others = (model(volume) for model in self.models)
        return sum(others, first) / len(self.models)
