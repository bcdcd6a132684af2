"""The compiled modules under ``mamba_ssm`` and ``causal_conv1d``, forward only.

Forks that carry a copy of mamba_ssm's Python code call these two directly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from segmaformer.mamba.functional import causal_conv1d_fn, selective_scan_fn


def scan_forward(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
) -> tuple[torch.Tensor, ...]:
    """Scan as ``selective_scan_cuda.fwd`` does.

    Parameters
    ----------
    u, delta, A, B, C, D, z, delta_bias, delta_softplus
        See :func:`segmaformer.mamba.selective_scan_fn`.

    Returns
    -------
    tuple of torch.Tensor
        The result without the gate, (B, D, L); the states, (B, D, 1, 2 N), which are NaN as the
        scan keeps none; and, with a gate, the gated result.
    """
    y = selective_scan_fn(u, delta, A, B, C, D, None, delta_bias, delta_softplus)
    states = u.new_full((u.shape[0], u.shape[1], 1, 2 * A.shape[1]), torch.nan)
    return (y, states) if z is None else (y, states, y * F.silu(z))


def conv_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *options: Any
) -> torch.Tensor:
    """Filter as ``causal_conv1d_cuda.causal_conv1d_fwd`` does.

    Parameters
    ----------
    x, weight, bias
        See :func:`segmaformer.mamba.causal_conv1d_fn`.
    *options
        What the package's versions have in between, all None, and last whether SiLU follows.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L).

    Raises
    ------
    NotImplementedError
        A state or several sequences are given.
    """
    *others, silu = options
    if any(value is not None for value in others):
        raise NotImplementedError("the convolution takes and gives no states, and one sequence")
    return causal_conv1d_fn(x, weight, bias, activation="silu" if silu else None)
