"""Valid tiles of the networks, and the nearest valid tile to one that is not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segmaformer.checkpoint.fields import times
from segmaformer.models.planned_unets.nnunet_blocks import downsampling
from segmaformer.models.planned_unets.umamba import channel_tokens
from segmaformer.models.segmamba.segmamba import DOWNSAMPLING, STAGES
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Triple

_SEARCH_STEPS = 9

Complaint = Callable[[Triple], str | None]


def check_segmamba_tile(config: Mapping[str, Any], tile: Triple) -> None:
    """Refuse a tile that a SegMamba cannot halve four times or cut into its slices.

    Raises
    ------
    InputError
        The tile is invalid; the message names the nearest larger valid one.
    """

    def complaint(tile: Triple) -> str | None:
        if math.prod(tile) <= DOWNSAMPLING**3:
            return "leaves the last stage a single voxel"
        for stage, nslices in enumerate(config["nslices"] or []):
            length = math.prod(tile) // 8 ** (stage + 1)
            if length % nslices:
                return f"leaves stage {stage + 1} {length} voxels, not a multiple of {nslices}"
        return None

    _check(tile, (DOWNSAMPLING,) * 3, complaint)


def check_segresmamba_tile(config: Mapping[str, Any], tile: Triple) -> None:
    """Refuse a tile that a SegResMamba cannot halve four times, and once more inside.

    Raises
    ------
    InputError
        The tile is invalid; the message names the nearest larger valid one.
    """

    def complaint(tile: Triple) -> str | None:
        for stage in range(STAGES):
            coarse = [-(-extent // 2 ** (stage + 2)) for extent in tile]
            if math.prod(coarse) < 2:
                return f"leaves stage {stage + 1} a single voxel at half resolution"
            if config["use_tom"] and any(n % 2 for n in coarse):
                return f"leaves stage {stage + 1} an odd grid of {times(coarse)} to scan"
            if config["use_tom"] and math.prod(coarse) % config["nslices"][stage]:
                return f"leaves stage {stage + 1} {math.prod(coarse)} voxels to cut into slices"
        return None

    _check(tile, (DOWNSAMPLING,) * 3, complaint)


def check_unet_tile(config: Mapping[str, Any], tile: Triple) -> None:
    """Refuse a tile that a U-Net with strides in its configuration cannot divide by them.

    Raises
    ------
    InputError
        The tile is invalid; the message names the nearest larger valid one.
    """
    factors = downsampling(config["strides"])

    def complaint(tile: Triple) -> str | None:
        single = math.prod(tile) <= math.prod(factors)
        return "leaves the last stage a single voxel" if single else None

    _check(tile, factors, complaint)


def check_umamba_tile(config: Mapping[str, Any], tile: Triple) -> None:
    """Refuse a tile that a U-Mamba cannot divide by its strides, or that its tokens do not fit.

    Raises
    ------
    InputError
        The text names the nearest larger tile that would do, or the only one.
    """
    check_unet_tile(config, tile)
    size = config.get("input_size")
    if size is not None and list(tile) != list(size) and any(channel_tokens(dict(config))):
        raise InputError(
            f"a tile of {times(tile)} voxels does not fit this U-Mamba Enc: in its coarsest stages "
            f"the voxels of a tile are the features of a token, so it takes {times(size)} alone"
        )


def check_segformer3d_tile(config: Mapping[str, Any], tile: Triple) -> None:
    """Refuse a tile whose stages are coarser than their sequence reduction.

    Raises
    ------
    InputError
        The tile is invalid; the message names the nearest larger valid one.
    """

    def complaint(tile: Triple) -> str | None:
        grid: Sequence[int] = tile
        for stage, reduction in enumerate(config["sr_ratios"]):
            grid = [embedded(config, stage, axis, extent) for axis, extent in enumerate(grid)]
            if min(grid) < reduction:
                return (
                    f"leaves stage {stage + 1} a grid of {times(grid)}, which its attention "
                    f"cannot reduce by {reduction}"
                )
        return None

    depth, height, width = (along(config["patch_stride"][0], axis) for axis in range(3))
    _check(tile, (depth, height, width), complaint)


def embedded(config: Mapping[str, Any], stage: int, axis: int, voxels: int) -> int:
    """Count the voxels that a stage's patch embedding leaves of `voxels` along `axis`."""
    kernel, stride, padding = (
        along(config[key][stage], axis)
        for key in ("patch_kernel_size", "patch_stride", "patch_padding")
    )
    return max(0, (voxels + 2 * padding - kernel) // stride + 1)


def along(extent: int | Sequence[int], axis: int) -> int:
    """Return one axis of an extent that may be one number for all three."""
    return extent if isinstance(extent, int) else extent[axis]


def _check(tile: Triple, factors: Triple, complaint: Complaint) -> None:
    """Refuse `tile` unless its extents are multiples of `factors` without `complaint`."""
    if any(extent % factor for extent, factor in zip(tile, factors, strict=True)):
        reason = f"is not a multiple of {times(factors)} along every axis"
    elif (found := complaint(tile)) is not None:
        reason = found
    else:
        return
    nearest = _nearest(tile, factors, complaint)
    raise InputError(
        f"a tile of {times(tile)} voxels {reason}; "
        f"the nearest larger valid patch_size is {','.join(map(str, nearest))}"
    )


def _nearest(tile: Triple, factors: Triple, complaint: Complaint) -> Triple:
    """Return the smallest enlargement of `tile` that is valid by `factors` and `complaint`."""
    candidates = [
        tuple(
            (-(-extent // factor) + step) * factor
            for extent, factor, step in zip(tile, factors, steps, strict=True)
        )
        for steps in itertools.product(range(_SEARCH_STEPS), repeat=3)
    ]
    for depth, height, width in sorted(candidates, key=lambda tile: (math.prod(tile), max(tile))):
        if complaint((depth, height, width)) is None:
            return depth, height, width
    depth, height, width = (factor * 2**STAGES for factor in factors)
    return depth, height, width
