"""Valid tiles of a SegMaFormer: no instance norm may be left with a single voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from segmaformer.checkpoint.fields import times
from segmaformer.checkpoint.networks.network_tiles import embedded
from segmaformer.models.pyramids.segmaformer import STAGES
from segmaformer.models.pyramids.segmaformer_blocks import PREREDUCE_TYPES
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Triple

_SEARCH_LIMIT = 4096


def check_segmaformer_tile(config: Mapping[str, Any], tile: Triple) -> None:
    """Refuse a tile that the network cannot run on.

    Parameters
    ----------
    config
        Full configuration of the network.
    tile
        Depth, height and width in voxels.

    Raises
    ------
    InputError
        An instance norm would see one voxel, or a convolution none; the message states the
        grid and sufficient extents.
    """
    axes = [_extents(config, axis, voxels) for axis, voxels in enumerate(tile)]
    for stage in range(STAGES):
        grid = [extents[stage].full for extents in axes]
        coarse = [extents[stage].reduced for extents in axes]
        normed = coarse if _kind(config, stage) in PREREDUCE_TYPES else grid
        if min(coarse) < 1 or math.prod(normed) < 2:
            raise InputError(_complaint(config, tile, stage, normed))


class _Extents:
    """Voxels along one axis of a stage's grid, before and after its sequence reduction."""

    def __init__(self, full: int, ratio: int):
        self.full = full
        self.reduced = full // ratio


def _extents(config: Mapping[str, Any], axis: int, voxels: int) -> list[_Extents]:
    """Count the voxels that every stage leaves of `voxels` along `axis`."""
    result = []
    for stage in range(STAGES):
        voxels = embedded(config, stage, axis, voxels)
        reduces = _kind(config, stage) in ("attention", *PREREDUCE_TYPES)
        result.append(_Extents(voxels, config["sr_ratios"][stage] if reduces else 1))
    return result


def _complaint(config: Mapping[str, Any], tile: Triple, stage: int, grid: Sequence[int]) -> str:
    least = [_smallest(config, axis, 1) for axis in range(3)]
    depth, height, width = (_smallest(config, axis, 2) for axis in range(3))
    return (
        f"a tile of {times(tile)} voxels leaves stage {stage + 1} of the network a grid of "
        f"{times(grid)}, and it needs more than one voxel; give a patch_size of at least "
        f"{times(least)} that reaches {depth} in depth, {height} in height or {width} in width"
    )


def _smallest(config: Mapping[str, Any], axis: int, extent: int) -> int:
    """Return the fewest voxels along `axis` that leave `extent` of them in every grid."""
    for voxels in range(1, _SEARCH_LIMIT):
        if min(stage.reduced for stage in _extents(config, axis, voxels)) >= extent:
            return voxels
    return _SEARCH_LIMIT


def _kind(config: Mapping[str, Any], stage: int) -> str:
    kind: str = config["stage_block_types"][stage]
    return kind
