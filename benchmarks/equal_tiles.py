"""Tiles of one value, which run once, on a CT as it is and with the air of a wide field of view.

    python benchmarks/equal_tiles.py SCAN --out equal_tiles.json

SCAN is resampled to `--spacing-mm`, clipped as nnU-Net clips a CT, and widened by air to
`--field-mm`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.spec import Label, Output, Resampling, Tiling

AIR_HU, CLIP_HU = -1024, (-970, 300)
TILES = (128, 96, 64)
PLENTY = 1 << 40


def tiles_and_repeats(image: np.ndarray, extent: int) -> dict[str, int]:
    """Count the tiles of an image (C, D, H, W), and those that the network is not run on."""
    run_on = 0

    def network(tiles: np.ndarray) -> np.ndarray:
        nonlocal run_on
        run_on += len(tiles)
        return np.zeros((len(tiles), 2, *tiles.shape[2:]), np.float32)

    spacing_mm = (1.0,) * 3
    stream = LabelStream(
        image,
        Tiling((extent,) * 3),
        Output((Label(0, "background"), Label(1, "organ"))),
        LogitsGrid(image.shape[1:], spacing_mm, spacing_mm, Resampling(order=1)),
        TileNetwork(network),
        budget=MemoryBudget(PLENTY),
        threads=1,
    )
    stream.labels(lambda done, count: None)
    return {"tiles": stream.tile_runs, "repeats": stream.tile_runs - run_on}


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
