"""Reference of the selective scan: its definition, one step of the sequence at a time.

Slow, and the measure for every other implementation. Source: A. Gu and T. Dao, arXiv
2312.00752, and the semantics of ``mamba_ssm.selective_scan_fn``. Only a limited number of tokens
has its states in memory at a time, so that a whole published tile can be scanned in float64.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

STATES_AT_ONCE = 2**22
"""Largest number of values (tokens x channels x states) in memory: 32 MiB in float64."""


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
    The arithmetic is float64 if `u` is, float32 otherwise.
    """
    work = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_work, step, a, b, c = (t.to(work) for t in (u, delta, A, B, C))
    if delta_bias is not None:
        step = step + delta_bias.to(work)
    if delta_softplus:
        step = F.softplus(step, threshold=20.0)
    y = _scanned(u_work, step, a, b, c, reverse=reverse)
    if D is not None:
        y = y + D.to(work) * u_work
    if z is not None:
        y = y * F.silu(z.to(work))
    return y.to(u.dtype)


def _scanned(
    u: torch.Tensor,
    step: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    *,
    reverse: bool,
) -> torch.Tensor:
    """Return ``C[t] h[t]`` of every token, shape (B, L, D)."""
    length = u.shape[1]
    state = torch.zeros(u.shape[0], *a.shape, dtype=u.dtype, device=u.device)
    tokens = max(1, STATES_AT_ONCE // max(1, state.numel()))
    parts = []
    starts = range(0, length, tokens)
    for start in reversed(starts) if reverse else starts:
        part = slice(start, start + tokens)
        decay = torch.exp(step[:, part, :, None] * a).unbind(1)
        drive = ((step[:, part] * u[:, part])[..., None] * b[:, part, None]).unbind(1)
        states = []
        for t in reversed(range(len(drive))) if reverse else range(len(drive)):
            state = torch.addcmul(drive[t], decay[t], state)
            states.append(state)
        states = states[::-1] if reverse else states
        parts.append((torch.stack(states, dim=1) * c[:, part, None]).sum(-1))
    return torch.cat(parts[::-1] if reverse else parts, dim=1) if parts else torch.zeros_like(u)
