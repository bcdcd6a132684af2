"""Tiles of one value, which run once, on a CT as it is and with the air of a wide field of view.

    python benchmarks/equal_tiles.py SCAN --out equal_tiles.json

SCAN is resampled to `--spacing-mm`, clipped as nnU-Net clips a CT, and widened by air to
`--field-mm`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from segmaformer.runtime.pipeline.tiling import pad_to_tile, tile_boxes
from segmaformer.runtime.spec import Tiling

AIR_HU, CLIP_HU = -1024, (-970, 300)
TILES = (128, 96, 64)


def tiles_and_repeats(image: np.ndarray, extent: int) -> dict[str, int]:
    """Count the tiles of an image (C, D, H, W), and those equal to an earlier one of one value."""
    tiling = Tiling((extent,) * 3)
    padded, _ = pad_to_tile(image, tiling.tile)
    boxes = tile_boxes(padded.shape[1:], tiling)
    tiles = (padded[(slice(None), *box)].reshape(len(image), -1) for box in boxes)
    flat = Counter(tile[:, 0].tobytes() for tile in tiles if (tile == tile[:, :1]).all())
    return {"tiles": len(boxes), "repeats": max(0, max(flat.values(), default=0) - 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--spacing-mm", type=float, default=1.5)
    parser.add_argument("--field-mm", type=float, default=500)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    scan = nibabel.load(arguments.scan)
    zooms = [float(mm) / arguments.spacing_mm for mm in scan.header.get_zooms()[:3]]
    tight = ndimage.zoom(scan.get_fdata(dtype=np.float32), zooms, order=1)
    field = round(arguments.field_mm / arguments.spacing_mm)
    missing = [max(0, field - extent) for extent in tight.shape]
    wide = np.pad(tight, [(n // 2, n - n // 2) for n in missing], constant_values=AIR_HU)
    rows = [
        {"scan": name, "shape": image.shape, "tile": extent, **counts}
        for name, image in {"as it is": tight, "wide": wide}.items()
        for extent in TILES
        for counts in [tiles_and_repeats(np.clip(image, *CLIP_HU)[None], extent)]
    ]
    for row in rows:
        print(row)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
