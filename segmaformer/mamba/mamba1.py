"""The module ``mamba_ssm.Mamba``, and its forks with two and three orders of the sequence.

Sources: A. Gu and T. Dao, arXiv 2312.00752; L. Zhu et al., "Vision Mamba", arXiv 2401.09417
(``bimamba_type`` v1 and v2); Z. Xing et al., "SegMamba", arXiv 2401.13560 (v3). Parameter names
are those of their checkpoints.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.mamba.functional import bimamba_inner_fn
from segmaformer.models.layers.mamba import (
    initial_log_decay,
    initialise_time_step,
    project_in,
    selective_branch,
)
from segmaformer.models.segmamba.tri_mamba import slices_inside, slices_outside

_ORDERS = {"none": ("",), "v1": ("",), "v2": ("", "_b"), "v3": ("", "_b", "_s")}


class Mamba(nn.Module):
    """Selective state space layer with the arguments of ``mamba_ssm.Mamba``.

    Parameters
    ----------
    d_model
        Width of the tokens.
    d_state, d_conv, expand, dt_rank
        States of a channel, taps of the convolution, inner width over `d_model`, and width of
        the steps' projection (``auto``: a sixteenth of `d_model`, rounded up).
    dt_min, dt_max, dt_init_floor, dt_scale, dt_init
        How steps start before training.
    conv_bias, bias
        Whether the convolution, and the projections in and out, have one.
    bimamba_type
        ``none``; ``v1``, from both ends with a state matrix each; ``v2``, from both ends with
        parameters of their own; ``v3``, and across `nslices` slices.
    if_divide_out, if_devide_out
        Whether the directions of v2 are averaged instead of added.
    use_fast_path
        Must be True where `bimamba_type` has several directions.
    layer_idx
        Ignored: there is no state.

    Raises
    ------
    NotImplementedError
        An unknown `bimamba_type` or `dt_init`, v3 without `nslices`, several directions without
        `use_fast_path`, or a layer scale.
    """

    conv1d: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    A_b_log: nn.Parameter
    D: nn.Parameter
    bimamba_type = "none"
    if_divide_out = False
    nslices: int | None = None

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        bimamba_type: str | None = "none",
        nslices: int | None = None,
        if_divide_out: bool = False,
        if_devide_out: bool = False,
        init_layer_scale: float | None = None,
    ):
        super().__init__()
        self.bimamba_type = bimamba_type or "none"
        if self.bimamba_type not in _ORDERS:
            raise NotImplementedError(
                f"bimamba_type is {bimamba_type!r}; known: {', '.join(_ORDERS)}"
            )
        if self.bimamba_type == "v3" and nslices is None:
            raise NotImplementedError("bimamba_type v3 needs nslices")
        if self.bimamba_type != "none" and not use_fast_path:
            raise NotImplementedError(
                "with use_fast_path=False the forks scan in one direction, whatever bimamba_type "
                "says; give use_fast_path=True, or bimamba_type='none' if it was trained so"
            )
        if dt_init not in ("random", "constant"):
            raise NotImplementedError(f"dt_init is {dt_init!r}; expected random or constant")
        if init_layer_scale is not None:
            raise NotImplementedError("init_layer_scale is not supported")
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner = int(expand * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.nslices, self.if_divide_out = nslices, if_divide_out or if_devide_out
        inner, made = self.d_inner, {"device": device, "dtype": dtype}
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias, **made)
        for order in _ORDERS[self.bimamba_type]:
            conv = nn.Conv1d(
                inner, inner, d_conv, groups=inner, padding=d_conv - 1, bias=conv_bias, **made
            )
            dt_proj = nn.Linear(self.dt_rank, inner, **made)
            if dt_proj.weight.device.type != "meta":
                initialise_time_step(
                    dt_proj,
                    low=dt_min,
                    high=dt_max,
                    floor=dt_init_floor,
                    scale=dt_scale,
                    constant=dt_init == "constant",
                )
            x_proj = nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False, **made)
            self.add_module(f"conv1d{order}", conv)
            self.add_module(f"x_proj{order}", x_proj)
            self.add_module(f"dt_proj{order}", dt_proj)
            self.register_parameter(f"A{order}_log", _log_decay(inner, d_state, device))
            self.register_parameter(f"D{order}", nn.Parameter(torch.ones(inner, device=device)))
        if self.bimamba_type == "v1":
            self.register_parameter("A_b_log", _log_decay(inner, d_state, device))
        self.out_proj = nn.Linear(inner, d_model, bias=bias, **made)

    def forward(self, hidden_states: torch.Tensor, inference_params: Any = None) -> torch.Tensor:
        """Mix tokens.

        Parameters
        ----------
        hidden_states
            Shape (B, L, d_model).
        inference_params
            Must be None.

        Returns
        -------
        torch.Tensor
            Shape (B, L, d_model).

        Raises
        ------
        NotImplementedError
            Generation token by token (`inference_params`) is asked for.
        """
        if inference_params is not None:
            raise NotImplementedError("generation token by token is not supported")
        if self.bimamba_type == "v1":
            return self._two_ways_of_one(hidden_states)
        x, z = project_in(hidden_states, self.in_proj)
        y = self._branch(x, z, "")
        if self.bimamba_type in ("v2", "v3"):
            y = y + self._branch(x, z, "_b")
        if self.bimamba_type == "v3":
            assert self.nslices is not None
            x = slices_inside(x, self.nslices, axis=2)
            z = slices_inside(z, self.nslices, axis=1)
            y = y + slices_outside(self._branch(x, z, "_s"), self.nslices)
        if self.if_divide_out and self.bimamba_type == "v2":
            y = y / 2
        return self.out_proj(y)

    def _branch(self, x: torch.Tensor, z: torch.Tensor, order: str) -> torch.Tensor:
        return selective_branch(
            x,
            z,
            conv=getattr(self, f"conv1d{order}"),
            x_proj=getattr(self, f"x_proj{order}"),
            dt_proj=getattr(self, f"dt_proj{order}"),
            A_log=getattr(self, f"A{order}_log"),
            D=getattr(self, f"D{order}"),
            reverse=order == "_b",
        )

    def _two_ways_of_one(self, tokens: torch.Tensor) -> torch.Tensor:
        xz = F.linear(tokens, self.in_proj.weight, self.in_proj.bias).transpose(1, 2)
        return bimamba_inner_fn(
            xz,
            self.conv1d.weight,
            self.conv1d.bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            self.out_proj.weight,
            self.out_proj.bias,
            -self.A_log.exp(),
            -self.A_b_log.exp(),
            D=self.D,
            delta_bias=self.dt_proj.bias,
        )


def _log_decay(inner: int, d_state: int, device: Any) -> nn.Parameter:
    return nn.Parameter(initial_log_decay(inner, d_state).to(device))
