"""A network's results in float64, the measure of its float32 in PyTorch and ONNX Runtime.

PyTorch's convolutions in float64 copy the neighbourhood of every voxel, which takes tens of
gigabytes for a published tile; here they run a few planes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NEIGHBOURS_BYTES = 2**28
"""Limit in bytes of the copies that one convolution makes at a time."""


def float64_logits(model: nn.Module, tile: np.ndarray) -> np.ndarray:
    """Compute the logits of one tile in float64.

    Parameters
    ----------
    model
        Network in evaluation mode, float32, on the CPU; unchanged afterwards.
    tile
        Shape (C, D, H, W), float32.

    Returns
    -------
    np.ndarray
        Shape (K, D, H, W), float64.
    """
    with torch.no_grad(), _in_float64(model), _PlanewiseConvolutions():
        logits: np.ndarray = model(torch.from_numpy(tile[None]).double())[0].numpy()
    return logits


@contextmanager
def _in_float64(model: nn.Module) -> Iterator[None]:
    """Widen the weights in place; narrowing them again gives the same values."""
    model.double()
    try:
        yield
    finally:
        model.float()


class _PlanewiseConvolutions(TorchFunctionMode):
    """Mode in which 3-D convolutions compute a few planes of their result at a time."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        run = _convolve if func is F.conv3d else func
        return run(*args, **(kwargs or {}))


def _convolve(
    volume: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Compute ``conv3d`` of (B, C, D, H, W) in groups of planes along D."""
    step, before, spread = (_along_depth(each) for each in (stride, padding, dilation))
    reach = spread * (weight.shape[2] - 1) + 1
    depth = (volume.shape[2] + 2 * before - reach) // step + 1
    planes = _planes_at_once(volume, weight)
    flat = (0, *_triple(padding)[1:])
    parts = []
    for first in range(0, depth, planes):
        low = first * step - before
        high = (min(first + planes, depth) - 1) * step - before + reach
        inside = volume[:, :, max(low, 0) : min(high, volume.shape[2])]
        missing = (0, 0, 0, 0, max(-low, 0), max(high - volume.shape[2], 0))
        parts.append(F.conv3d(F.pad(inside, missing), weight, bias, stride, flat, dilation, groups))
    return torch.cat(parts, dim=2)


def _planes_at_once(volume: torch.Tensor, weight: torch.Tensor) -> int:
    neighbours = weight[0].numel() * volume.shape[3] * volume.shape[4] * volume.element_size()
    return max(1, NEIGHBOURS_BYTES // neighbours)


def _along_depth(given: int | tuple[int, ...]) -> int:
    return _triple(given)[0]


def _triple(given: int | tuple[int, ...]) -> tuple[int, ...]:
    return (given,) * 3 if isinstance(given, int) else tuple(given)
