"""2-D networks as 3-D ones of one voxel in depth.

A 2-D network segments a scan slice by slice. The same network with kernels, strides and a tile of
one voxel in depth computes the same, so that weights, plans and mirroring axes only get that depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from segmaformer.checkpoint.fields import sequence, times
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Triple

_MOST_FEATURES = 512
"""Number that nnU-Net's planner takes for 2-D networks."""


def is_of_planes(weights: Mapping[str, torch.Tensor]) -> bool:
    """Tell if the convolutions among the weights are 2-D."""
    ranks = {tensor.ndim for tensor in weights.values()}
    return 4 in ranks and 5 not in ranks


def weights_with_depth(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give kernels (.., H, W) a depth of one."""
    return {
        name: tensor.unsqueeze(2) if tensor.ndim == 4 else tensor
        for name, tensor in weights.items()
    }


def plan_is_of_planes(plan: Mapping[str, Any]) -> bool:
    """Tell if a configuration of plans.json has patches of two axes."""
    patch = plan.get("patch_size")
    return isinstance(patch, list | tuple) and len(patch) == 2


def plan_with_depth(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Give patch, spacing, kernels and strides of a 2-D configuration a depth.

    It is one voxel, and None for the spacing, as slices are not resampled.
    """
    found = {"unet_max_num_features": _MOST_FEATURES, **plan}
    found["patch_size"] = [1, *sequence(plan["patch_size"], "plans.json: patch_size", length=2)]
    where = "plans.json: spacing"
    found["spacing"] = [None, *sequence(plan.get("spacing"), where, length=2)]
    for key in ("conv_kernel_sizes", "pool_op_kernel_sizes"):
        if key in plan:
            found[key] = _deep(plan[key], f"plans.json: {key}")
    architecture = plan.get("architecture")
    arguments = architecture.get("arch_kwargs") if isinstance(architecture, Mapping) else None
    if isinstance(architecture, Mapping) and isinstance(arguments, Mapping):
        deep = {
            key: _deep(arguments[key], f"plans.json: arch_kwargs.{key}")
            for key in ("kernel_sizes", "strides")
            if key in arguments
        }
        found["architecture"] = {**architecture, "arch_kwargs": {**arguments, **deep}}
    return found


def _deep(extents: Any, where: str) -> list[list[Any]]:
    return [[1, *sequence(each, where, length=2)] for each in sequence(extents, where)]


def check_plane(tile: Triple) -> None:
    """Refuse a tile of several slices for a 2-D network: its norms would mix them.

    Raises
    ------
    InputError
        The tile is deeper than one voxel.
    """
    if tile[0] != 1:
        raise InputError(
            f"the network is 2-D, but the tile is {times(tile)}; expected 1 voxel in depth, such "
            f"as {times((1, *tile[1:]))}"
        )


def axes_with_depth(axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the axes of a plane as those of a volume.

    Raises
    ------
    InputError
        An axis is not one of a plane's.
    """
    if axes is not None and not set(axes) <= {0, 1}:
        raise InputError(
            f"the checkpoint mirrors the axes {list(axes)}, but its network is 2-D; expected some "
            "of 0 and 1"
        )
    return None if axes is None else tuple(axis + 1 for axis in axes)
