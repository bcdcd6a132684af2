"""Record what MONAI computes, for tests/runtime/pipeline/test_monai_parity.py.

Needs an environment with monai, see README.md beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import monai
import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from monai.inferers.utils import _get_scan_interval
from support.scans import parity_cases as cases

Arrays = dict[str, np.ndarray]
OVERLAPS = (0.25, 0.5, 0.625)


def positions() -> Arrays:
    """Return the first voxels of all tiles, one row each, and the number of rows for each case."""
    corners = []
    for shape, tile, overlap in cases.overlap_cases():
        interval = _get_scan_interval(shape, tile, 3, (overlap,) * 3)
        boxes = dense_patch_slices(shape, tile, interval)
        corners.append(np.array([[side.start for side in box] for box in boxes], np.uint8))
    return {"corners": np.concatenate(corners), "counts": np.array([len(c) for c in corners])}


def weights() -> Arrays:
    return {
        name: compute_importance_map(tile, mode="gaussian", sigma_scale=0.125).numpy()
        for name, tile in cases.WEIGHT_TILES.items()
    }


def blending() -> Arrays:
    return {
        f"{name}/{overlap}/{mode}": sliding_window_inference(
            torch.from_numpy(cases.blending_image(shape))[None],
            cases.BLENDING_TILE,
            1,
            cases.ramp_network,
            overlap=overlap,
            mode=mode,
        )[0].numpy()
        for name, shape in cases.BLENDING_SHAPES.items()
        for overlap in OVERLAPS
        for mode in ("gaussian", "constant")
    }


def main() -> None:
    torch.set_num_threads(1)
    print(f"monai {monai.__version__}, torch {torch.__version__}, NumPy {np.__version__}")
    for topic in (positions, weights, blending):
        path = cases.DATA / "monai" / f"{topic.__name__}.npz"
        np.savez_compressed(path, **topic())
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
