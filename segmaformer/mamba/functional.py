"""The functions of ``mamba_ssm`` and ``causal_conv1d``, over the project's own scan.

Sequences are channels-first here, (B, D, L), as those packages have them. Sources: A. Gu and
T. Dao, arXiv 2312.00752; L. Zhu et al., "Vision Mamba", arXiv 2401.09417, for two directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from segmaformer.models.layers.mamba import causal_depthwise_conv
from segmaformer.ops import selective_scan


def selective_scan_fn(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> torch.Tensor:
    """Scan a sequence selectively, as ``mamba_ssm.ops.selective_scan_interface`` does.

    Parameters
    ----------
    u, delta, z
        Shape (B, D, L); one type.
    A
        Shape (D, N), real.
    B, C
        Shape (D, N), the same for every token; (B, N, L); or (B, G, N, L), each group for
        D / G channels in turn.
    D, delta_bias
        Shape (D).
    delta_softplus
        Whether steps pass through softplus.
    return_last_state
        Not supported.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L), the type of `u`.

    Raises
    ------
    NotImplementedError
        A complex `A`, or the last state is asked for.
    ValueError
        Shapes that do not fit each other.
    """
    if return_last_state:
        raise NotImplementedError("the scan keeps no last state; return_last_state must be False")
    if A.is_complex():
        raise NotImplementedError("A is complex; only real state matrices can be scanned")
    channels = u.shape[1]
    b, c = (_by_group(matrix, u) for matrix in (B, C))
    groups = max(b.shape[1], c.shape[1])
    if channels % groups or groups % b.shape[1] or groups % c.shape[1]:
        raise ValueError(
            f"{channels} channels cannot be shared by {b.shape[1]} groups of B and "
            f"{c.shape[1]} of C"
        )
    width = channels // groups
    results = []
    for group in range(groups):
        part = slice(group * width, (group + 1) * width)
        y = selective_scan(
            u[:, part].transpose(1, 2),
            delta[:, part].transpose(1, 2),
            A[part] if A.dtype == torch.float64 else A[part].float(),
            b[:, group * b.shape[1] // groups].transpose(1, 2).to(u.dtype),
            c[:, group * c.shape[1] // groups].transpose(1, 2).to(u.dtype),
            D=None if D is None else D[part],
            z=None if z is None else z[:, part].transpose(1, 2),
            delta_bias=None if delta_bias is None else delta_bias[part],
            delta_softplus=delta_softplus,
        )
        results.append(y.transpose(1, 2))
    return results[0] if groups == 1 else torch.cat(results, dim=1)


def _by_group(matrix: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Bring B or C to (B, G, N, L)."""
    if matrix.is_complex():
        raise NotImplementedError("B or C is complex; only real ones can be scanned")
    if matrix.dim() == 3:
        return matrix.unsqueeze(1)
    if matrix.dim() == 4:
        return matrix
    if matrix.dim() != 2 or matrix.shape[0] != u.shape[1]:
        raise ValueError(
            f"B or C has shape {tuple(matrix.shape)}; expected (D, N), (B, N, L) or (B, G, N, L)"
        )
    # One state vector for each channel: a group of its own.
    return matrix[None, :, :, None].expand(u.shape[0], -1, -1, u.shape[2])


def causal_conv1d_fn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    seq_idx: Any = None,
    initial_states: Any = None,
    return_final_states: bool = False,
    final_states_out: Any = None,
    activation: str | None = None,
) -> torch.Tensor:
    """Filter channels along the sequence without looking ahead.

    Parameters
    ----------
    x
        Shape (B, D, L).
    weight, bias
        Shapes (D, K) and (D).
    activation
        None, ``silu`` or ``swish``.
    seq_idx, initial_states, return_final_states, final_states_out
        Not supported.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L).

    Raises
    ------
    NotImplementedError
        A state or another activation is asked for.
    """
    asked = (seq_idx, initial_states, final_states_out, return_final_states or None)
    if any(value is not None for value in asked):
        raise NotImplementedError("the convolution takes and gives no states, and one sequence")
    if activation not in (None, "silu", "swish"):
        raise NotImplementedError(f"activation is {activation!r}; expected None, silu or swish")
    filtered = causal_depthwise_conv(x, weight.unsqueeze(1), bias)
    return filtered if activation is None else F.silu(filtered)


def mamba_inner_fn_no_out_proj(
    xz: torch.Tensor,
    conv1d_weight: torch.Tensor,
    conv1d_bias: torch.Tensor | None,
    x_proj_weight: torch.Tensor,
    delta_proj_weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor | None = None,
    C: torch.Tensor | None = None,
    D: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    B_proj_bias: torch.Tensor | None = None,
    C_proj_bias: torch.Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
) -> torch.Tensor:
    """Compute everything between the projections of a Mamba layer.

    Parameters
    ----------
    xz
        Shape (B, 2 D, L): sequence and gate.
    conv1d_weight, conv1d_bias
        Shapes (D, 1, K) and (D).
    x_proj_weight, delta_proj_weight
        Shapes (R + 2 N, D) and (D, R), of which B and C take rows only where they are None.
    A, D, delta_bias
        Shapes (D, N), (D) and (D).
    B, C
        None, or as :func:`selective_scan_fn` takes them.
    B_proj_bias, C_proj_bias
        Shape (N), added to what `x_proj_weight` gives.
    checkpoint_lvl
        Ignored: it trades memory for time in training.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L).
    """
    x, z = xz.chunk(2, dim=1)
    filtered, delta, b, c = _selected(
        x, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A.shape[1], B, C
    )
    if B_proj_bias is not None and B is None:
        b = b + B_proj_bias[:, None]
    if C_proj_bias is not None and C is None:
        c = c + C_proj_bias[:, None]
    return selective_scan_fn(filtered, delta, A, b, c, D, z, delta_bias, delta_softplus)


def _selected(
    x: torch.Tensor,
    conv1d_weight: torch.Tensor,
    conv1d_bias: torch.Tensor | None,
    x_proj_weight: torch.Tensor,
    delta_proj_weight: torch.Tensor,
    states: int,
    B: torch.Tensor | None,
    C: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the filtered sequence, steps, B and C, channels-first."""
    filtered = F.silu(causal_depthwise_conv(x, conv1d_weight, conv1d_bias))
    rank = delta_proj_weight.shape[1]
    projected = x_proj_weight @ filtered
    delta = delta_proj_weight @ projected[:, :rank]
    b = projected[:, rank : rank + states] if B is None else B
    c = projected[:, -states:] if C is None else C
    return filtered, delta, b, c


def mamba_inner_fn(
    xz: torch.Tensor,
    conv1d_weight: torch.Tensor,
    conv1d_bias: torch.Tensor | None,
    x_proj_weight: torch.Tensor,
    delta_proj_weight: torch.Tensor,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    A: torch.Tensor,
    *rest: Any,
    **named: Any,
) -> torch.Tensor:
    """Compute a Mamba layer but for its input projection.

    Parameters are those of :func:`mamba_inner_fn_no_out_proj`, and the output projection of
    shapes (E, D) and (E). Returns shape (B, L, E).

    Raises
    ------
    NotImplementedError
        A norm of the projected steps, B or C.
    """
    norms = [key for key in named if key.endswith(("_rms_weight", "_rms_eps"))]
    if any(named.pop(key) is not None and key.endswith("_rms_weight") for key in norms):
        raise NotImplementedError("norms of delta, B and C inside a Mamba layer are not supported")
    y = mamba_inner_fn_no_out_proj(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, *rest, **named
    )
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def bimamba_inner_fn(
    xz: torch.Tensor,
    conv1d_weight: torch.Tensor,
    conv1d_bias: torch.Tensor | None,
    x_proj_weight: torch.Tensor,
    delta_proj_weight: torch.Tensor,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    A: torch.Tensor,
    A_b: torch.Tensor,
    B: torch.Tensor | None = None,
    C: torch.Tensor | None = None,
    D: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    B_proj_bias: torch.Tensor | None = None,
    C_proj_bias: torch.Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
) -> torch.Tensor:
    """Compute a Mamba layer with two directions that differ in their state matrix alone.

    Parameters are those of :func:`mamba_inner_fn`; `A_b`, of the shape of `A`, is that of the
    direction from the end. Returns shape (B, L, E).

    Raises
    ------
    NotImplementedError
        B or C is given, or a bias of them.
    """
    if any(value is not None for value in (B, C, B_proj_bias, C_proj_bias)):
        raise NotImplementedError("two directions take B and C from the sequence, without a bias")
    x, z = xz.chunk(2, dim=1)
    filtered, delta, b, c = _selected(
        x, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A.shape[1], None, None
    )
    onward = selective_scan_fn(filtered, delta, A, b, c, D, z, delta_bias, delta_softplus)
    filtered, delta, b, c, z = (tensor.flip(-1) for tensor in (filtered, delta, b, c, z))
    back = selective_scan_fn(filtered, delta, A_b, b, c, D, z, delta_bias, delta_softplus)
    y = (onward + back.flip(-1)).transpose(1, 2)
    return F.linear(y, out_proj_weight, out_proj_bias)
