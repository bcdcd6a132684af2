"""118 classes on 88 million voxels within a gigabyte, and the same labels as all logits give.

    python benchmarks/memory_budget.py SCAN --out memory_budget.json

SCAN is resampled to 0.75 mm. The network is a SegMaFormer with random weights, 118 outputs and
tiles of 64^3 at 1.5 mm. The run has a process of its own; peak memory is its largest resident
size. On a crop the label map is compared with the one from all logits at full size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pipeline import prepare
from turns import in_process

FINE_MM, COARSE_MM, TILE, CLASSES = 0.75, 1.5, 64, 118


def write_fine_scan(scan: Path, target: Path) -> None:
    """Resample `scan` linearly to 0.75 mm."""
    from segmaformer.runtime.pipeline.resampling import resample, target_shape
    from segmaformer.runtime.spec import Resampling

    image = nibabel.as_closest_canonical(nibabel.load(scan))
    x, y, z = (float(mm) for mm in image.header.get_zooms()[:3])
    spacing = (x, y, z)
    fine = (FINE_MM,) * 3
    voxels = np.asarray(image.dataobj, dtype=np.float32)[None]
    shape = target_shape(voxels.shape[1:], spacing, fine)
    grids: dict[str, Any] = {"spacing_mm": spacing, "new_spacing_mm": fine}
    voxels = resample(voxels, shape, resampling=Resampling(order=1), **grids)[0]
    affine = image.affine @ np.diag([FINE_MM / mm for mm in spacing] + [1])
    nibabel.save(nibabel.Nifti1Image(voxels.round().astype(np.int16), affine), target)


def _run(folder: Path, budget_mib: int) -> dict[str, Any]:
    from segmaformer.runtime import Package, Predictor
    from segmaformer.runtime.system.memory import peak_mib

    predictor = Predictor(Package.open(folder / "model.sgmf"), memory_budget_mib=budget_mib)
    start = time.perf_counter()
    segmentation = predictor.predict(folder / "scan.nii.gz")
    segmentation.save(folder / "labels.nii.gz")
    seconds = {**segmentation.seconds, "total": time.perf_counter() - start}
    return {"shape": segmentation.labels.shape, "seconds": seconds, "peak_mib": peak_mib()}


def _compare_on_crop(folder: Path) -> dict[str, int]:
    from segmaformer.runtime import Package, Predictor
    from segmaformer.runtime.backends import open_session
    from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
    from segmaformer.runtime.pipeline.labels import logits_to_labels
    from segmaformer.runtime.pipeline.preprocessing import preprocess, restore_logits, restore_map
    from segmaformer.runtime.pipeline.tile_network import TileNetwork
    from segmaformer.runtime.scans.volume import Volume
    from segmaformer.runtime.spec import Resampling

    image = nibabel.load(folder / "scan.nii.gz")
    voxels = np.asarray(image.dataobj[100:290, 100:270, 100:260], dtype=np.float32)[None]
    volume = Volume(voxels, image.affine)
    package = Package.open(folder / "model.sgmf")
    streamed = Predictor(package, memory_budget_mib=400).predict(volume).labels
    manifest = package.manifest
    prepared = preprocess(volume, manifest.preprocessing)
    run = open_session(package).run
    depth, height, width = prepared.image.shape[1:]
    stream = LabelStream(
        prepared.image,
        manifest.tiling,
        manifest.output,
        LogitsGrid((depth, height, width), (1.0,) * 3, (1.0,) * 3, Resampling(order=1)),
        TileNetwork(run),
        budget=MemoryBudget(1 << 60),
        threads=0,
    )
    logits = stream.logits(lambda done, count: None)
    logits = restore_logits(logits, prepared, manifest.preprocessing.logits_resampling)
    full = restore_map(logits_to_labels(logits, manifest.output), prepared)
    return {"voxels": full.size, "unlike": int((streamed != full).sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--budget", type=int, default=1024)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_process(prepare, folder, CLASSES, TILE, COARSE_MM)
        write_fine_scan(options.scan, folder / "scan.nii.gz")
        whole = in_process(_run, folder, options.budget)
        crop = in_process(_compare_on_crop, folder)
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in whole["seconds"].items())
    print(f"{CLASSES} classes, {whole['shape']} voxels, budget {options.budget} MiB")
    print(f"peak {whole['peak_mib']:.0f} MiB; {seconds}")
    print(f"on a crop {crop['unlike']} of {crop['voxels']} labels differ from all logits' labels")
    if options.out:
        document = {"budget_mib": options.budget, "whole": whole, "crop": crop}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
