"""Gradient of the selective scan in PyTorch, for float64 and for devices other than a CPU.

On a CPU the op library computes it in float32, many times as fast.
The backward pass of a linear recurrence is the same recurrence run from the end.
Both are evaluated on two levels: the sequence is cut into about sqrt(L) chunks
that advance in lockstep, then the chunks' carries are passed on. This takes
O(sqrt(L)) tensor operations, where a step-by-step loop takes O(L).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

Optional = torch.Tensor | None


def linear_recurrence(decay: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
    """Evaluate ``h[t] = decay[t] * h[t-1] + drive[t]`` along dimension 1, h[-1] = 0.

    Parameters
    ----------
    decay, drive
        Shape (B, L, ...), equal for both.

    Returns
    -------
    torch.Tensor
        States h, in the shape of `drive`.
    """
    length = drive.shape[1]
    steps = max(1, math.isqrt(length))
    chunks = -(-length // steps)
    padding = [0, 0] * (drive.dim() - 2) + [0, chunks * steps - length]
    a = F.pad(decay, padding).unflatten(1, (chunks, steps))
    h = F.pad(drive, padding).unflatten(1, (chunks, steps)).clone()
    product = torch.empty_like(a)
    product[:, :, 0] = a[:, :, 0]
    for step in range(1, steps):
        h[:, :, step].addcmul_(a[:, :, step], h[:, :, step - 1])
        torch.mul(product[:, :, step - 1], a[:, :, step], out=product[:, :, step])
    for chunk in range(1, chunks):
        h[:, chunk].addcmul_(product[:, chunk], h[:, chunk - 1, -1:])
    return h.flatten(1, 2)[:, :length]


def selective_scan_backward(
    grad: torch.Tensor,
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: Optional,
    z: Optional,
    delta_bias: Optional,
    *,
    delta_softplus: bool,
) -> tuple[Optional, ...]:
    """Compute gradients of the forward scan with respect to its eight tensor inputs.

    Parameters
    ----------
    grad
        Gradient of the output, shape (B, L, D).
    u, delta, A, B, C, D, z, delta_bias, delta_softplus
        As in :func:`segmaformer.ops.selective_scan`, running forward.

    Returns
    -------
    tuple
        Gradients for u, delta, A, B, C, D, z, delta_bias, each of its input's shape and type;
        None where the input is None. The arithmetic is float64 if `u` is, float32 otherwise.
    """
    inputs = (u, delta, A, B, C, D, z, delta_bias)
    work = torch.float64 if u.dtype == torch.float64 else torch.float32
    widened: list[Any] = [None if tensor is None else tensor.to(work) for tensor in inputs]
    gradients = _backward(grad.to(work), *widened, delta_softplus=delta_softplus)
    return tuple(
        None if tensor is None or gradient is None else gradient.to(tensor.dtype)
        for tensor, gradient in zip(inputs, gradients, strict=True)
    )


def _backward(
    grad_y: torch.Tensor,
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: Optional,
    z: Optional,
    delta_bias: Optional,
    *,
    delta_softplus: bool,
) -> tuple[Optional, ...]:
    raw = delta if delta_bias is None else delta + delta_bias
    step = F.softplus(raw) if delta_softplus else raw
    decay = torch.exp(step[..., None] * A)
    state = linear_recurrence(decay, (step * u)[..., None] * B[:, :, None])
    grad_z = None
    if z is not None:
        y = torch.einsum("bldn,bln->bld", state, C)
        y = y if D is None else y + D * u
        sigmoid = torch.sigmoid(z)
        grad_z = grad_y * y * sigmoid * (1 + z * (1 - sigmoid))
        grad_y = grad_y * z * sigmoid
    grad_c = torch.einsum("bldn,bld->bln", state, grad_y)
    following = F.pad(decay[:, 1:], (0, 0, 0, 0, 0, 1)).flip(1)
    drive = grad_y[..., None] * C[:, :, None]
    grad_state = linear_recurrence(following, drive.flip(1)).flip(1)
    grad_b = torch.einsum("bldn,bld->bln", grad_state, step * u)
    grad_drive = torch.einsum("bldn,bln->bld", grad_state, B)
    previous = F.pad(state[:, :-1], (0, 0, 0, 0, 1, 0))
    grad_exponent = grad_state * previous * decay
    grad_step = torch.einsum("bldn,dn->bld", grad_exponent, A) + grad_drive * u
    grad_a = torch.einsum("bldn,bld->dn", grad_exponent, step)
    grad_u = grad_drive * step if D is None else grad_drive * step + grad_y * D
    # Beyond the cut-off of 20 softplus is the identity; its derivative is 1 to float32 there.
    grad_raw = grad_step * torch.sigmoid(raw) if delta_softplus else grad_step
    grad_d = (grad_y * u).sum((0, 1))
    return grad_u, grad_raw, grad_a, grad_b, grad_c, grad_d, grad_z, grad_raw.sum((0, 1))
