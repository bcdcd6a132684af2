"""Selective scan as one operator for eager PyTorch, training and export."""

from __future__ import annotations

import torch

from segmaformer.ops.library import scan_op

__all__ = ["selective_scan"]

MAX_STATES = 256


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
) -> torch.Tensor:
    """Run the selective scan of Mamba-1, token-major.

    ``d = delta + delta_bias``, then softplus where asked for;
    ``h[t] = exp(d[t] A) h[t-1] + d[t] u[t] B[t]``;
    ``y[t] = C[t] h[t] + D u[t]``, times ``SiLU(z[t])`` where `z` is given.
    State and accumulation are float32 (float64 where `u` is). Semantics of
    ``mamba_ssm.selective_scan_fn``; source: A. Gu and T. Dao, arXiv 2312.00752.

    Parameters
    ----------
    u, delta
        Shape (B, L, D); float32, float16, bfloat16 or float64; the sequence and its steps.
    A
        Shape (D, N), negative; N at most 256.
    B, C
        Shape (B, L, N), the type of `u`.
    D, delta_bias
        Shape (D,), optional.
    z
        Shape (B, L, D), optional gate.
    delta_softplus
        Whether to apply softplus to the steps; it is the identity above 20.
    reverse
        Whether to run the sequence from its end.

    Returns
    -------
    torch.Tensor
        Shape (B, L, D), the type of `u`.

    Raises
    ------
    ValueError
        Shapes do not fit each other, or there are more than 256 states.
    """
    if u.dim() != 3 or A.dim() != 2:
        raise ValueError(
            f"u must be (B, L, D) and A (D, N); found {tuple(u.shape)} and {tuple(A.shape)}"
        )
    batch, length, channels = u.shape
    states = A.shape[1]
    if not 1 <= states <= MAX_STATES:
        raise ValueError(f"A has {states} states; 1 to {MAX_STATES} are supported")
    sequence, projection, vector = (batch, length, channels), (batch, length, states), (channels,)
    for name, tensor, expected in (
        ("delta", delta, sequence),
        ("A", A, (channels, states)),
        ("B", B, projection),
        ("C", C, projection),
        ("D", D, vector),
        ("z", z, sequence),
        ("delta_bias", delta_bias, vector),
    ):
        if tensor is not None and tuple(tensor.shape) != tuple(expected):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; "
                f"u of shape {tuple(u.shape)} and A of shape {tuple(A.shape)} ask for {expected}"
            )
    y: torch.Tensor = scan_op(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse)
    return y
