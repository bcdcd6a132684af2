"""The Mamba-1 mixer, token-major, with mamba-ssm's parameter names.

Source: A. Gu and T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective
State Spaces", arXiv 2312.00752; parameter names and initial values are those of
the ``mamba_ssm.Mamba`` module so that its checkpoints load unchanged.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.ops import selective_scan


def causal_depthwise_conv(
    tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Depthwise convolution along the sequence that sees no later token.

    Parameters
    ----------
    tokens
        Shape (B, L, C).
    weight
        Shape (C, 1, K); tap ``K - 1`` multiplies the current token.
    bias
        Shape (C,) or None.

    Returns
    -------
    torch.Tensor
        Shape (B, L, C). Written as shifted multiply-adds: a sequence convolution
        would need the tokens transposed to channels-first and back.
    """
    length, taps = tokens.shape[1], weight.shape[-1]
    padded = F.pad(tokens, (0, 0, taps - 1, 0))
    result = padded[:, :length] * weight[:, 0, 0]
    if bias is not None:
        result = bias + result
    for tap in range(1, taps):
        result = result + padded[:, tap : tap + length] * weight[:, 0, tap]
    return result


class Mamba(nn.Module):
    """Selective state space layer over a token sequence.

    Parameters
    ----------
    channels
        Width of the tokens.
    d_state
        States of each inner channel.
    d_conv
        Taps of the causal convolution.
    expand
        Inner width divided by `channels`.
    """

    def __init__(self, channels: int, *, d_state: int = 16, d_conv: int = 4, expand: int = 2):
        super().__init__()
        inner = expand * channels
        self.rank = math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        states = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(states.log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self._initialise_time_step()

    def _initialise_time_step(self) -> None:
        """Draw time steps log-uniformly from 1e-3 to 0.1, as mamba-ssm does."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = math.log(1e-3), math.log(0.1)
        step = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp().clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix `tokens` of shape (B, L, C); returns the same shape."""
        x, z = self.in_proj(tokens).chunk(2, dim=-1)
        x = F.silu(causal_depthwise_conv(x, self.conv1d.weight, self.conv1d.bias))
        d_state = self.A_log.shape[1]
        step, b, c = self.x_proj(x).split((self.rank, d_state, d_state), dim=-1)
        y = selective_scan(
            x,
            F.linear(step, self.dt_proj.weight),
            -self.A_log.float().exp(),
            b,
            c,
            D=self.D,
            z=z,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
        )
        return self.out_proj(y)
