"""Resampling a CT to a network's spacing: sgmf, and scikit-image as nnU-Net v2 calls it.

    python benchmarks/resampling.py --out resampling.json

Two cases: slices of 2 mm, where a cubic spline goes through all axes, and slices of 5 mm, which
nnU-Net resizes one by one with a cubic spline and takes the nearest of along the third axis. The
intensities are noise, on which a spline takes as long as on anything else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from turns import Run, available_threads, report, table, take_turns

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]

SKIMAGE = "scikit-image, as nnU-Net v2"
NEW_SPACING: Spacing = (1.5, 1.5, 1.5)
CASES: dict[str, tuple[Triple, Spacing]] = {
    "2 mm slices, all axes together": ((120, 512, 512), (2.0, 0.75, 0.75)),
    "5 mm slices, each on its own": ((60, 512, 512), (5.0, 0.75, 0.75)),
}


def make_image(shape: Triple) -> np.ndarray:
    """Make normalised intensities (D, H, W), float32."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def prepare_skimage(shape: Triple, new_shape: Triple, separate: bool) -> Run:
    """Resample in float64 on one thread; each slice on its own first, then nearest across them."""
    from scipy import ndimage
    from skimage.transform import resize

    image = make_image(shape)
    edges: dict[str, Any] = {"mode": "edge", "anti_aliasing": False, "preserve_range": True}

    def together() -> np.ndarray:
        return resize(image.astype(float), new_shape, 3, **edges).astype(np.float32)

    def slice_by_slice() -> np.ndarray:
        planes = image.astype(float)
        resized = np.stack([resize(plane, new_shape[1:], 3, **edges) for plane in planes])
        coordinates = np.mgrid[tuple(slice(length) for length in new_shape)].astype(float)
        for axis, (old, new) in enumerate(zip(resized.shape, new_shape, strict=True)):
            coordinates[axis] = old / new * (coordinates[axis] + 0.5) - 0.5
        across = ndimage.map_coordinates(resized, coordinates, order=0, mode="nearest")
        return across.astype(np.float32)

    return slice_by_slice if separate else together


def prepare_sgmf(shape: Triple, new_shape: Triple, spacing_mm: Spacing, threads: int) -> Run:
    """Resample with :func:`segmaformer.runtime.pipeline.resampling.resample`."""
    from segmaformer.runtime.pipeline.resampling import resample
    from segmaformer.runtime.spec import Resampling

    image = make_image(shape)[None]

    def run() -> np.ndarray:
        return resample(
            image,
            new_shape,
            spacing_mm=spacing_mm,
            new_spacing_mm=NEW_SPACING,
            resampling=Resampling(),
            threads=threads,
        )[0]

    return run


def measure(shape: Triple, spacing_mm: Spacing, rounds: int) -> dict[str, Any]:
    """Measure one case; returns the document of :func:`turns.report`."""
    from segmaformer.runtime.pipeline.resampling import target_shape

    new_shape = target_shape(shape, spacing_mm, NEW_SPACING)
    separate = max(spacing_mm) > 3 * min(spacing_mm)  # as nnU-Net decides
    candidates: dict[str, Any] = {SKIMAGE: (prepare_skimage, (shape, new_shape, separate))}
    for threads in sorted({1, available_threads()}):
        arguments = (shape, new_shape, spacing_mm, threads)
        candidates[f"sgmf, threads {threads}"] = (prepare_sgmf, arguments)
    return {
        "shape": shape,
        "new_shape": new_shape,
        **report(take_turns(candidates, rounds), SKIMAGE),
    }


def main() -> None:
    """Measure, print the tables and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cases = {}
    for name, (shape, spacing_mm) in CASES.items():
        cases[name] = measure(shape, spacing_mm, options.rounds)
        print(f"{name}: {shape} to {cases[name]['new_shape']}\n{table(cases[name])}\n")
    if options.out:
        options.out.write_text(json.dumps(cases, indent=2) + "\n")


if __name__ == "__main__":
    main()
