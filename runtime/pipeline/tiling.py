"""Cutting of a volume into tiles and blending of their logits, by nnU-Net v2's or MONAI's rules.

Both pad volumes smaller than a tile with zeros, half on either side, and weigh the logits
by a Gaussian of sigma tile/8. They differ in two things:

* nnU-Net spreads tiles evenly; its Gaussian is truncated, has peak 10 and is rounded to
  float16. Source: F. Isensee et al., "nnU-Net: a self-configuring method for deep
  learning-based biomedical image segmentation", Nature Methods 18, 203-211 (2021), and
  the behaviour of ``nnunetv2``'s predictor.
* MONAI lays tiles at a fixed stride and moves the last one back inside; its Gaussian is
  nowhere below 0.001. Source: M. J. Cardoso et al., "MONAI: An open-source framework for
  deep learning in healthcare", arXiv:2211.02701 (2022), and the behaviour of
  ``monai.inferers.sliding_window_inference``.
"""

from __future__ import annotations

import itertools

import numpy as np

from segmaformer.runtime.bindings.pipeline_call import as_json, call
from segmaformer.runtime.spec import Box, Tiling, TilingScheme, Triple

BLENDINGS: dict[str, tuple[TilingScheme, bool]] = {
    "nnunet": ("nnunet", True),
    "monai-constant": ("monai", False),
    "monai-gaussian": ("monai", True),
}
"""Scheme, and whether weights are Gaussian, by a name; MONAI's are those of its modes."""


def tile_starts(extent: int, tile: int, step: float, scheme: TilingScheme = "nnunet") -> list[int]:
    """Return the first voxels of the tiles along one axis.

    Parameters
    ----------
    extent
        Number of voxels along the axis, at least `tile`.
    tile
        Number of voxels of a tile.
    step
        Largest distance of neighbouring tiles, as a fraction of `tile`.
    scheme
        nnU-Net's tiles are evenly spread from 0 to ``extent - tile``, rounded half to even; MONAI's
        follow at `step` tiles, rounded down to whole voxels, but at least one, and the last is
        ``extent - tile``.

    Raises
    ------
    ValueError
        The axis is shorter than a tile, or `step` is not above 0 and at most 1.
    """
    text = as_json(Tiling((tile, tile, tile), step, scheme=scheme))
    count = np.array([max(1, extent - tile + 1)])
    while True:
        starts = np.empty(count[0], np.int64)
        call("sgmf_tile_starts", text, 0, extent, len(starts), starts, count)
        if count[0] <= len(starts):
            return [int(start) for start in starts[: count[0]]]


def tile_boxes(shape: Triple, tiling: Tiling) -> list[Box]:
    """List the tiles of a volume that is at least one tile large, depth slowest."""
    starts = [
        tile_starts(extent, tile, tiling.step, tiling.scheme)
        for extent, tile in zip(shape, tiling.tile, strict=True)
    ]
    return [_box(corner, tiling.tile) for corner in itertools.product(*starts)]


def _box(corner: tuple[int, ...], extent: tuple[int, ...]) -> Box:
    depth, height, width = (slice(c, c + e) for c, e in zip(corner, extent, strict=True))
    return depth, height, width


def place_in_tiles(shape: Triple, tile: Triple) -> tuple[Triple, Box]:
    """Return the volume that tiles cover, at least a tile, and the place of an image in it.

    Returns
    -------
    padded_shape, box
        Shape of the volume and part of the image; missing voxels are added half on either side.
    """
    depth, height, width = (max(t, extent) for t, extent in zip(tile, shape, strict=True))
    padded = (depth, height, width)
    corner = tuple((p - extent) // 2 for p, extent in zip(padded, shape, strict=True))
    return padded, _box(corner, shape)


def pad_to_tile(image: np.ndarray, tile: Triple) -> tuple[np.ndarray, Box]:
    """Zero-pad (C, D, H, W) symmetrically to at least one tile.

    Returns
    -------
    padded, box
        Padded image, or `image` itself if it is large enough, and the image's place in it.
    """
    _, depth, height, width = image.shape
    shape, place = place_in_tiles((depth, height, width), tile)
    if shape == (depth, height, width):
        return image, place
    padding = [(side.start, extent - side.stop) for side, extent in zip(place, shape, strict=True)]
    return np.pad(image, [(0, 0), *padding]), place
