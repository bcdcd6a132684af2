"""The tri-orientated Mamba layer of SegMamba: forward, backward and across slices.

Source: Z. Xing et al., "SegMamba: Long-range Sequential Modeling Mamba For 3D Medical
Image Segmentation", arXiv 2401.13560. Three sets of parameters, told apart by a suffix,
share the input and output projections; parameter names are those of its checkpoints.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from segmaformer.models.layers.mamba import (
    initial_log_decay,
    initialise_time_step,
    project_in,
    selective_branch,
)
from segmaformer.models.layers.tokens import grid_of, to_tokens, to_volume

FORWARD, BACKWARD, SLICES = "", "_b", "_s"


class TriMamba(nn.Module):
    """Mamba with two or three orders of the sequence.

    Parameters
    ----------
    channels
        Number of features of a token.
    d_state, d_conv, expand
        See :class:`segmaformer.models.layers.mamba.Mamba`.
    nslices
        Number of slices for the third order; None leaves it out, as SegMamba did before March
        2024.
    """

    def __init__(
        self, channels: int, *, d_state: int, d_conv: int, expand: int, nslices: int | None
    ):
        super().__init__()
        inner = expand * channels
        rank = math.ceil(channels / 16)
        self.nslices = nslices
        self.orders = (FORWARD, BACKWARD) if nslices is None else (FORWARD, BACKWARD, SLICES)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        for order in self.orders:
            conv = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
            dt_proj = nn.Linear(rank, inner)
            initialise_time_step(dt_proj)
            self.add_module(f"conv1d{order}", conv)
            self.add_module(f"x_proj{order}", nn.Linear(inner, rank + 2 * d_state, bias=False))
            self.add_module(f"dt_proj{order}", dt_proj)
            self.register_parameter(f"A{order}_log", initial_log_decay(inner, d_state))
            self.register_parameter(f"D{order}", nn.Parameter(torch.ones(inner)))
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix `tokens` of shape (B, L, C); returns the same shape.

        Raises
        ------
        ValueError
            L is no multiple of the number of slices.
        """
        x, z = project_in(tokens, self.in_proj)
        y = self._branch(x, z, FORWARD) + self._branch(x, z, BACKWARD)
        if self.nslices is not None:
            x = slices_inside(x, self.nslices, axis=2)
            z = slices_inside(z, self.nslices, axis=1)
            y = y + slices_outside(self._branch(x, z, SLICES), self.nslices)
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
            reverse=order == BACKWARD,
        )


def slices_inside(sequence: torch.Tensor, nslices: int, *, axis: int) -> torch.Tensor:
    """Reorder tokens along `axis` so that those at one place of all slices follow each other."""
    length = sequence.shape[axis]
    if length % nslices:
        raise ValueError(
            f"a sequence of {length} tokens cannot be cut into {nslices} slices; "
            "use a tile whose grid in this stage is a multiple"
        )
    slices = sequence.unflatten(axis, (nslices, length // nslices))
    return slices.transpose(axis, axis + 1).flatten(axis, axis + 1)


def slices_outside(tokens: torch.Tensor, nslices: int) -> torch.Tensor:
    """Undo :func:`slices_inside` for tokens of shape (B, L, C)."""
    length = tokens.shape[1]
    return tokens.unflatten(1, (length // nslices, nslices)).transpose(1, 2).flatten(1, 2)


class TriMambaLayer(nn.Module):
    """Layer norm and :class:`TriMamba` on the voxels of a volume.

    Parameters
    ----------
    channels, d_state, d_conv, expand, nslices
        See :class:`TriMamba`.
    residual
        Whether the input is added to the result.
    """

    def __init__(
        self,
        channels: int,
        *,
        d_state: int,
        d_conv: int,
        expand: int,
        nslices: int | None,
        residual: bool,
    ):
        super().__init__()
        self.residual = residual
        self.norm = nn.LayerNorm(channels)
        self.mamba = TriMamba(
            channels, d_state=d_state, d_conv=d_conv, expand=expand, nslices=nslices
        )

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Mix the voxels of a (B, C, D, H, W) volume; returns the same shape."""
        mixed = to_volume(self.mamba(self.norm(to_tokens(volume))), grid_of(volume))
        return mixed + volume if self.residual else mixed
