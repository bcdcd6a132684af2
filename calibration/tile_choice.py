"""Choice of a scan's tiles for calibration: every label that it has, and its surroundings."""

from __future__ import annotations

import numpy as np

from segmaformer.runtime.pipeline.tiling import tile_boxes
from segmaformer.runtime.spec import Box, Tiling, Triple

BACKGROUND_EVERY = 3
EXAMINED_PER_CHOSEN = 4
LEAST_EXAMINED = 12


def boxes_to_examine(
    shape: Triple, tiling: Tiling, wanted: int, random: np.random.Generator
) -> list[Box]:
    """Return boxes of the runtime's own tiling, a random part of them if there are many.

    Parameters
    ----------
    shape
        Number of voxels along D, H and W of the padded scan.
    tiling
        Tiling of the package.
    wanted
        Number of tiles that are to be chosen from those examined.
    random
        Generator that decides which boxes to examine.

    Returns
    -------
    list of Box
        Boxes in the order of the tiling.
    """
    boxes = tile_boxes(shape, tiling)
    count = max(LEAST_EXAMINED, EXAMINED_PER_CHOSEN * wanted)
    if len(boxes) <= count:
        return boxes
    return [boxes[index] for index in sorted(random.permutation(len(boxes))[:count].tolist())]


def label_voxels(labels: np.ndarray, count: int) -> np.ndarray:
    """Count the voxels of each label below `count`, shape (count,), int64; ignore others."""
    values = labels.reshape(-1)
    return np.bincount(values[values < count], minlength=count)


def choose_tiles(voxels: np.ndarray, wanted: int) -> list[int]:
    """Choose tiles that show every label evenly; every third is the one with most background.

    Parameters
    ----------
    voxels
        Number of voxels of each label in each examined tile, shape (tiles, labels); label 0 is
        the background.
    wanted
        Largest number of tiles.

    Returns
    -------
    list of int
        Indices of tiles, ascending; the same for the same counts.
    """
    left = list(range(len(voxels)))
    shown = np.zeros(voxels.shape[1] - 1)
    chosen: list[int] = []
    while left and len(chosen) < wanted:
        foreground = voxels[left, 1:]
        if len(chosen) % BACKGROUND_EVERY == BACKGROUND_EVERY - 1:
            best = int(np.argmin(foreground.sum(axis=1)))
        else:
            # A label's gain falls with its voxels shown so far, so that rare labels count.
            gains = np.log1p(shown + foreground) - np.log1p(shown)
            best = int(np.argmax(gains.sum(axis=1)))
        shown += foreground[best]
        chosen.append(left.pop(best))
    return sorted(chosen)
