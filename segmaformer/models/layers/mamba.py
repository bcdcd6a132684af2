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


def project_in(tokens: torch.Tensor, in_proj: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Project tokens to the sequence and gate of a Mamba layer.

    Parameters
    ----------
    tokens
        Shape (B, L, channels).
    in_proj
        Projection; its first half of rows makes the sequence, the second the gate.

    Returns
    -------
    x, z
        Sequence, shape (B, C, L), and gate, shape (B, L, C): each in the layout of its reader,
        so that neither is cut out of a tensor of both.
    """
    inner = in_proj.out_features // 2
    sequence, gate = in_proj.weight[:inner], in_proj.weight[inner:]
    x = sequence @ tokens.transpose(1, 2)
    if in_proj.bias is None:
        return x, F.linear(tokens, gate)
    return x + in_proj.bias[:inner, None], F.linear(tokens, gate, in_proj.bias[inner:])


def causal_depthwise_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    reverse: bool = False,
) -> torch.Tensor:
    """Convolve each channel along the sequence without seeing later tokens.

    Parameters
    ----------
    x
        Shape (B, C, L).
    weight
        Shape (C, 1, K); tap ``K - 1`` multiplies the current token.
    bias
        Shape (C,) or None.
    reverse
        Whether to run from the end of the sequence, so that no earlier token is seen.

    Returns
    -------
    torch.Tensor
        Shape (B, C, L).
    """
    before = weight.shape[-1] - 1
    padded = F.pad(x, (0, before) if reverse else (before, 0))
    return F.conv1d(padded, weight.flip(-1) if reverse else weight, bias, groups=x.shape[1])


def selective_branch(
    x: torch.Tensor,
    z: torch.Tensor,
    *,
    conv: nn.Conv1d,
    x_proj: nn.Linear,
    dt_proj: nn.Linear,
    A_log: torch.Tensor,
    D: torch.Tensor,
    reverse: bool = False,
) -> torch.Tensor:
    """Run the part of a Mamba layer between its input and output projections.

    Parameters
    ----------
    x, z
        Sequence and gate, shapes (B, C, L) and (B, L, C); see :func:`project_in`.
    conv, x_proj, dt_proj, A_log, D
        Parameters as :class:`Mamba` names them, for C inner channels.
    reverse
        Whether to run from the end of the sequence: the same as flipping `x`, `z` and the
        result along L, without the copies.

    Returns
    -------
    torch.Tensor
        Shape (B, L, C).
    """
    filtered = F.silu(causal_depthwise_conv(x, conv.weight, conv.bias, reverse=reverse))
    u = filtered.transpose(1, 2).contiguous()
    d_state = A_log.shape[1]
    step, b, c = x_proj(u).split((dt_proj.in_features, d_state, d_state), dim=-1)
    return selective_scan(
        u,
        F.linear(step, dt_proj.weight),
        -_at_least_float32(A_log).exp(),
        b,
        c,
        D=D,
        z=z,
        delta_bias=dt_proj.bias,
        delta_softplus=True,
        reverse=reverse,
    )


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def initialise_time_step(
    dt_proj: nn.Linear,
    *,
    low: float = 1e-3,
    high: float = 0.1,
    floor: float = 1e-4,
    scale: float = 1.0,
    constant: bool = False,
) -> None:
    """Draw time steps log-uniformly from `low` to `high`, as mamba-ssm does.

    Parameters
    ----------
    dt_proj
        Projection to the steps, changed in place.
    low, high, floor
        Range of the steps, and the least.
    scale
        Factor of the projection's weights.
    constant
        Whether these are all equal instead of random.
    """
    bound = scale * dt_proj.in_features**-0.5
    nn.init.uniform_(dt_proj.weight, bound if constant else -bound, bound)
    step = torch.empty_like(dt_proj.bias).uniform_(math.log(low), math.log(high))
    step = step.exp().clamp(min=floor)
    with torch.no_grad():
        dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))


def initial_log_decay(channels: int, d_state: int) -> nn.Parameter:
    """Return mamba-ssm's initial ``A_log``: log(1) to log(d_state) for every channel."""
    states = torch.arange(1, d_state + 1, dtype=torch.float32)
    return nn.Parameter(states.log().repeat(channels, 1))


class Mamba(nn.Module):
    """Selective state space layer over a token sequence.

    Parameters
    ----------
    channels
        Number of features of a token.
    d_state
        Number of states of each inner channel.
    d_conv
        Number of taps of the causal convolution.
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
        self.A_log = initial_log_decay(inner, d_state)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        initialise_time_step(self.dt_proj)

    def forward(self, tokens: torch.Tensor, *, reverse: bool = False) -> torch.Tensor:
        """Mix `tokens` of shape (B, L, C), from their end if `reverse`; returns the same shape."""
        x, z = project_in(tokens, self.in_proj)
        y = selective_branch(
            x,
            z,
            conv=self.conv1d,
            x_proj=self.x_proj,
            dt_proj=self.dt_proj,
            A_log=self.A_log,
            D=self.D,
            reverse=reverse,
        )
        return self.out_proj(y)
