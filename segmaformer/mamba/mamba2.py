"""The modules ``mamba_ssm.Mamba2`` and ``Mamba2Simple``, over the scan of Mamba-1.

Mamba-2 is the same recurrence with one number in place of each channel's state matrix: a head
of P channels shares it and its step, so repeating both over the head is exact. Source: T. Dao
and A. Gu, "Transformers are SSMs", arXiv 2405.21060.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.mamba.functional import causal_conv1d_fn, selective_scan_fn


def chunk_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    chunk_size: int = 256,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    dt_bias: torch.Tensor | None = None,
    initial_states: Any = None,
    seq_idx: Any = None,
    cu_seqlens: Any = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
) -> torch.Tensor:
    """Scan heads; ``mamba_chunk_scan_combined`` of ``mamba_ssm``.

    Parameters
    ----------
    x, z
        Shape (B, L, H, P).
    dt
        Shape (B, L, H).
    A, dt_bias
        Shape (H).
    B, C
        Shape (B, L, G, N), each group for H / G heads in turn.
    D
        Shape (H) or (H, P).
    chunk_size
        Ignored: it does not change the result.
    dt_softplus, dt_limit
        Whether steps pass through softplus, and what they are then limited to.
    initial_states, seq_idx, cu_seqlens, return_final_states, return_varlen_states
        Not supported.

    Returns
    -------
    torch.Tensor
        Shape (B, L, H, P).

    Raises
    ------
    NotImplementedError
        States or several sequences are asked for.
    """
    asked = (initial_states, seq_idx, cu_seqlens)
    if any(value is not None for value in asked) or return_final_states or return_varlen_states:
        raise NotImplementedError("the scan takes and gives no states, and one sequence")
    batch, length, heads, width = x.shape
    if dt_bias is not None:
        dt = dt + dt_bias
    if dt_softplus:
        dt = F.softplus(dt)
    if tuple(dt_limit) != (0.0, math.inf):
        dt = dt.clamp(*dt_limit)
    states = B.shape[-1]
    flat = (batch, length, heads * width)
    skip = None if D is None else (D if D.dim() == 2 else D[:, None].expand(heads, width))
    y = selective_scan_fn(
        x.reshape(flat).transpose(1, 2),
        dt[..., None].expand(x.shape).reshape(flat).transpose(1, 2).to(x.dtype),
        A[:, None, None].expand(heads, width, states).reshape(heads * width, states),
        B.permute(0, 2, 3, 1),
        C.permute(0, 2, 3, 1),
        D=None if skip is None else skip.reshape(-1),
        z=None if z is None else z.reshape(flat).transpose(1, 2),
    )
    return y.transpose(1, 2).unflatten(2, (heads, width))


class RMSNormGated(nn.Module):
    """Root-mean-square norm in groups, gated before or after.

    Parameters
    ----------
    hidden_size, group_size
        Channels, and how many share a norm; None: all.
    eps
        Added to the mean square.
    norm_before_gate
        Whether the gate multiplies the normed values instead of what is normed.
    """

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        group_size: int | None = None,
        norm_before_gate: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(self, x: torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, (..., hidden_size), by itself and the gate `z` of the same shape."""
        if z is not None and not self.norm_before_gate:
            x = x * F.silu(z)
        groups = x.unflatten(-1, (-1, self.group_size or x.shape[-1]))
        normed = groups * (groups.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        normed = normed.flatten(-2) * self.weight
        return normed * F.silu(z) if z is not None and self.norm_before_gate else normed


class Mamba2(nn.Module):
    """Mamba-2 layer with the arguments of ``mamba_ssm.Mamba2``.

    Parameters
    ----------
    d_model, d_state, d_conv, expand, headdim, ngroups
        Width of tokens, states, taps, inner width over `d_model`, channels of a head, groups of
        B and C.
    d_ssm
        Inner channels that are scanned, the others pass a gated linear unit; None: all.
    D_has_hdim, rmsnorm, norm_before_gate, dt_limit, bias, conv_bias
        See :func:`chunk_scan` and :class:`RMSNormGated`.
    A_init_range, dt_min, dt_max, dt_init_floor, conv_init
        How parameters start before training.
    chunk_size, use_mem_eff_path, layer_idx
        Ignored: they do not change the result.

    Raises
    ------
    NotImplementedError
        Parallel training over processes.
    ValueError
        The channels are no whole number of heads, or these of groups.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: int = 2,
        headdim: int = 64,
        d_ssm: int | None = None,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1, 16),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 256,
        use_mem_eff_path: bool = True,
        layer_idx: int | None = None,
        process_group: Any = None,
        sequence_parallel: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if process_group is not None:
            raise NotImplementedError("process_group is not supported")
        made = {"device": device, "dtype": dtype}
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.d_ssm = self.d_inner if d_ssm is None else d_ssm
        self.headdim, self.ngroups = headdim, ngroups
        self.nheads = self.d_ssm // headdim
        if self.d_ssm % headdim or self.nheads % ngroups:
            raise ValueError(
                f"{self.d_ssm} channels cannot be shared by heads of {headdim} in {ngroups} "
                "groups; choose headdim and ngroups so that they can"
            )
        self.D_has_hdim, self.rmsnorm = D_has_hdim, rmsnorm
        self.norm_before_gate, self.dt_limit = norm_before_gate, dt_limit
        filtered = self.d_ssm + 2 * ngroups * d_state
        projected = 2 * (self.d_inner - self.d_ssm) + self.d_ssm + filtered + self.nheads
        self.in_proj = nn.Linear(d_model, projected, bias=bias, **made)
        self.conv1d = nn.Conv1d(
            filtered, filtered, d_conv, groups=filtered, padding=d_conv - 1, bias=conv_bias, **made
        )
        if conv_init is not None:
            nn.init.uniform_(self.conv1d.weight, -conv_init, conv_init)
        low, high = math.log(dt_min), math.log(dt_max)
        dt = torch.empty(self.nheads, device=device).uniform_(low, high).exp()
        dt = dt.clamp(min=dt_init_floor)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        decay = torch.empty(self.nheads, device=device).uniform_(*A_init_range)
        self.A_log = nn.Parameter(decay.log().to(dtype))
        self.D = nn.Parameter(torch.ones(self.d_ssm if D_has_hdim else self.nheads, device=device))
        if rmsnorm:
            self.norm = RMSNormGated(
                self.d_ssm,
                eps=1e-5,
                norm_before_gate=norm_before_gate,
                group_size=self.d_ssm // ngroups,
                **made,
            )
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **made)

    def forward(
        self,
        u: torch.Tensor,
        seqlen: int | None = None,
        seq_idx: Any = None,
        cu_seqlens: Any = None,
        inference_params: Any = None,
    ) -> torch.Tensor:
        """Mix tokens (B, L, d_model); returns the same shape.

        Raises
        ------
        NotImplementedError
            Packed sequences or generation token by token are asked for.
        """
        if any(value is not None for value in (seqlen, seq_idx, cu_seqlens, inference_params)):
            raise NotImplementedError("only whole sequences (B, L, d_model) can be mixed")
        others = self.d_inner - self.d_ssm
        filtered = self.d_ssm + 2 * self.ngroups * self.d_state
        gate, linear, z, xbc, dt = self.in_proj(u).split(
            (others, others, self.d_ssm, filtered, self.nheads), dim=-1
        )
        xbc = causal_conv1d_fn(
            xbc.transpose(1, 2), self.conv1d.weight.squeeze(1), self.conv1d.bias, activation="silu"
        ).transpose(1, 2)
        states = self.ngroups * self.d_state
        x, b, c = xbc.split((self.d_ssm, states, states), dim=-1)
        heads, groups = (self.nheads, self.headdim), (self.ngroups, self.d_state)
        y = chunk_scan(
            x.unflatten(2, heads),
            dt,
            -self.A_log.float().exp(),
            b.unflatten(2, groups),
            c.unflatten(2, groups),
            D=self.D.view(heads) if self.D_has_hdim else self.D,
            z=None if self.rmsnorm else z.unflatten(2, heads),
            dt_bias=self.dt_bias,
            dt_softplus=True,
            dt_limit=self.dt_limit,
        ).flatten(2)
        if self.rmsnorm:
            y = self.norm(y, z)
        if others:
            y = torch.cat((F.silu(gate) * linear, y), dim=-1)
        result: torch.Tensor = self.out_proj(y)
        return result


class Mamba2Simple(Mamba2):
    """Mamba-2 layer with the arguments of ``mamba_ssm.modules.mamba2_simple.Mamba2Simple``.

    Parameters
    ----------
    d_model
        Width of tokens.
    learnable_init_states
        Must be False.
    activation
        ``silu`` or ``swish``.
    use_mem_eff_path
        Whether each group of B and C has a norm of its own, as the fused kernel computes it.
    **options
        As :class:`Mamba2`; all inner channels are scanned.

    Raises
    ------
    NotImplementedError
        Trained initial states or another activation.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: int = 2,
        headdim: int = 128,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1, 16),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        learnable_init_states: bool = False,
        activation: str = "swish",
        use_mem_eff_path: bool = True,
        **options: Any,
    ):
        if learnable_init_states:
            raise NotImplementedError("learnable_init_states is not supported")
        if activation not in ("silu", "swish"):
            raise NotImplementedError(f"activation is {activation!r}; expected silu or swish")
        super().__init__(
            d_model,
            d_state,
            d_conv,
            conv_init,
            expand,
            headdim,
            ngroups=ngroups,
            A_init_range=A_init_range,
            dt_min=dt_min,
            dt_max=dt_max,
            dt_init_floor=dt_init_floor,
            dt_limit=dt_limit,
            **options,
        )
        self.use_mem_eff_path = use_mem_eff_path
        self.complete()

    def complete(self) -> None:
        """Set what :class:`Mamba2` has as choices and the real layer leaves to its kernel."""
        self.d_ssm, self.rmsnorm = self.d_inner, True
        self.D_has_hdim, self.norm_before_gate = False, False
        self.norm.group_size = self.d_inner // (self.ngroups if self.use_mem_eff_path else 1)
