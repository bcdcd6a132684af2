"""The selective scan as its definition reads: one step of the sequence at a time.

Slow, and the measure for every other implementation. Source: A. Gu and T. Dao,
arXiv 2312.00752, and the semantics of ``mamba_ssm.selective_scan_fn``.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def selective_scan_reference(
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
    """Evaluate the scan step by step.

    Parameters and result are those of :func:`segmaformer.ops.selective_scan`.
    The arithmetic is float64 where `u` is, float32 otherwise.
    """
    work = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_work, step, a, b, c = (t.to(work) for t in (u, delta, A, B, C))
    if delta_bias is not None:
        step = step + delta_bias.to(work)
    if delta_softplus:
        step = F.softplus(step, threshold=20.0)
    state = torch.zeros(u.shape[0], *A.shape, dtype=work, device=u.device)
    outputs = [torch.empty(0)] * u.shape[1]
    order = range(u.shape[1] - 1, -1, -1) if reverse else range(u.shape[1])
    for t in order:
        decay = torch.exp(step[:, t, :, None] * a)
        state = decay * state + (step[:, t] * u_work[:, t])[..., None] * b[:, t, None]
        outputs[t] = (state * c[:, t, None]).sum(-1)
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(u_work)
    if D is not None:
        y = y + D.to(work) * u_work
    if z is not None:
        y = y * F.silu(z.to(work))
    return y.to(u.dtype)
