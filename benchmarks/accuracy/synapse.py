"""PyTorch against a package on the 30 abdominal CTs of Synapse, organ by organ.

    python benchmarks/accuracy/synapse.py REPOSITORY --out synapse.json

REPOSITORY is a copy of QYAOYang/VLAlignSeg-: slices in an 8-bit window as
``data/SABS_CHAOS_Merged/processed/img/image_SABS_N_sliceM.png``, and the grid of each scan in
``data/SABS/sabs_CT_normalized/label_N.nii.gz``. SegMaFormer in its published configuration for
BTCV has random weights, with outputs centred on a scan so that every organ occurs: most decisions
are closer than a trained network's. The figures say how equal the package is, and nothing about
accuracy. The set's terms allow measurement; neither scans nor weights are part of this project.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from acdc import predictors
from PIL import Image

from segmaformer.checkpoint import TrainingRecord
from segmaformer.models import create_model, model_config
from segmaformer.runtime import Package

LABELS = [
    "background", "spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver",
    "stomach", "aorta", "postcava", "portal and splenic veins", "pancreas", "right adrenal gland",
    "left adrenal gland",
]  # fmt: skip
PATCH = (48, 192, 192)
SLICE = re.compile(r"image_SABS_(\d+)_slice(\d+)\.png")


def stack_scans(repository: Path, folder: Path) -> Iterator[Path]:
    """Write the slices of each scan as one volume on the grid of its labels, and name it."""
    slices: dict[int, dict[int, Path]] = {}
    for path in (repository / "data/SABS_CHAOS_Merged/processed/img").glob("image_SABS_*.png"):
        if match := SLICE.fullmatch(path.name):
            slices.setdefault(int(match[1]), {})[int(match[2])] = path
    for number, of_scan in sorted(slices.items()):
        labels = nibabel.load(repository / f"data/SABS/sabs_CT_normalized/label_{number}.nii.gz")
        planes = [np.asarray(Image.open(of_scan[index])) for index in sorted(of_scan)]
        voxels = np.stack(planes, axis=2)
        if voxels.shape != labels.shape:
            raise ValueError(f"scan {number} is {voxels.shape}, its labels are {labels.shape}")
        scan = folder / f"synapse_{number:02d}.nii.gz"
        nibabel.Nifti1Image(voxels, labels.affine).to_filename(scan)
        yield scan


def record_of(scans: list[Path]) -> TrainingRecord:
    """Return nnU-Net's CT normalisation by the set's own intensities, and its median spacing."""
    volumes = [nibabel.load(scan) for scan in scans]
    inside = np.concatenate([np.asarray(v.dataobj)[::8, ::8, ::4].ravel() for v in volumes])
    inside = inside[inside > 0]
    low, high = np.percentile(inside, (0.5, 99.5))
    spacing = np.median([volume.header.get_zooms()[::-1] for volume in volumes], axis=0)
    intensities = {"mean": float(inside.mean()), "std": float(inside.std())}
    intensities |= {"percentile_00_5": float(low), "percentile_99_5": float(high)}
    return TrainingRecord(
        network="segmaformer",
        configuration=model_config("segmaformer", preset="bctv_fixed"),
        patch_size=PATCH,
        spacing_mm=tuple(spacing.tolist()),
        channels=["CT"],
        labels={name: value for value, name in enumerate(LABELS)},
        normalizations=["CTNormalization"],
        intensities=[intensities],
        dataset="Dataset017_Abdomen",
    )


def write_checkpoint(scans: list[Path], path: Path) -> None:
    """Write random weights, the last bias shifted so that each output's median is zero."""
    torch.manual_seed(0)
    network = create_model("segmaformer", preset="bctv_fixed").eval()
    record = record_of(scans)
    (intensities,) = record.intensities
    voxels = np.asarray(nibabel.load(scans[0]).dataobj).transpose(2, 1, 0)[48:96, 32:224, 32:224]
    tile = (voxels.astype(np.float32) - intensities["mean"]) / intensities["std"]
    with torch.inference_mode():
        logits = network(torch.from_numpy(tile)[None, None])[0]
    last = [m for m in network.modules() if getattr(m, "out_channels", 0) == len(LABELS)][-1]
    last.bias.data -= logits.flatten(1).median(1).values
    record.save(network.state_dict(), path)


def compare(checkpoint: Path, package: Path, scans: list[Path]) -> dict[str, Any]:
    """Count each organ's voxels in PyTorch, and those that a variant labels otherwise."""
    counts: dict[str, np.ndarray] = {}
    compared = predictors(checkpoint, Package.open(package))
    for scan in scans:
        expected = None
        for name, predictor in compared.items():
            labels = predictor.predict(scan).labels
            expected = labels if expected is None else expected
            unlike = expected[labels != expected].ravel(), labels[labels != expected].ravel()
            rows = counts.setdefault(name, np.zeros((3, len(LABELS)), int))
            for row, found in zip(rows, (expected.ravel(), *unlike), strict=True):
                row += np.bincount(found, minlength=len(LABELS))
        line = {name: int(rows[1].sum()) for name, rows in counts.items()}
        print(scan.name, json.dumps(line), flush=True)
    return {name: by_organ(rows) for name, rows in counts.items()}


def by_organ(rows: np.ndarray) -> dict[str, Any]:
    """Return voxels of PyTorch, those lost and gained, and Dice with PyTorch, by organ."""
    table = {}
    for name, voxels, lost, gained in zip(LABELS, *rows.tolist(), strict=True):
        both = 2 * voxels - lost + gained
        dice = 1 - (lost + gained) / both if both else None
        table[name] = {"voxels": voxels, "lost": lost, "gained": gained, "dice": dice}
    return table


def main() -> None:
    """Compare on all scans, or the first ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--most", type=int, help="number of scans; default: all")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = list(stack_scans(options.repository, folder))
        checkpoint, package = folder / "synapse.pth", folder / "synapse.sgmf"
        write_checkpoint(scans, checkpoint)
        sgmf = Path(sys.executable).with_name("sgmf")
        command = [sgmf, "export", checkpoint, "--fp16", "-o", package]
        subprocess.run([str(part) for part in command], check=True)
        scans = scans[: options.most]
        rows = compare(checkpoint, package, scans)
    for name, organs in rows.items():
        worst = min(organs, key=lambda organ: organs[organ]["dice"] or 1)
        lost = sum(organ["lost"] for organ in organs.values())
        print(f"{name}: {lost} voxels unlike; lowest Dice {organs[worst]['dice']} ({worst})")
    if options.out:
        document = {"scans": len(scans), "rows": rows}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
