"""Dice of the reference model on its held-out cases: PyTorch, fp32 and fp16 side by side.

    python benchmarks/accuracy/hippocampus_dice.py DATA --out hippocampus_dice.json

DATA holds ``imagesTr`` and ``labelsTr`` of the Medical Segmentation Decathlon's Task04. Every
fifth case in name order was never trained on. All three run through the same pipeline.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import resources
from pathlib import Path

import nibabel
import numpy as np
from replaced_network import run_in_pytorch

from segmaformer.checkpoint import load_checkpoint
from segmaformer.export.pipeline import ExportOptions, export_package
from segmaformer.runtime import Predictor


def predictors(checkpoint_path: Path, folder: Path) -> dict[str, Predictor]:
    """Return the same pipeline around PyTorch and around both variants."""
    checkpoint = load_checkpoint(checkpoint_path)
    package = export_package(checkpoint, folder / "m.sgmf", ExportOptions(fp16=True), report=print)
    reference = Predictor(package)
    run_in_pytorch(reference, checkpoint.model)
    variants = {name: Predictor(package, variant=name) for name in ("fp32", "fp16")}
    return {"PyTorch": reference, **variants}


def dice(found: np.ndarray, truth: np.ndarray, value: int) -> float:
    a, b = found == value, truth == value
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    bundled = resources.files("segmaformer") / "reference_models/hippocampus/checkpoint_final.pth"
    images = sorted((options.data / "imagesTr").glob("*.nii.gz"))[::5]
    rows: dict[str, list[list[float]]] = {}
    labels: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder, resources.as_file(bundled) as path:
        for name, predictor in predictors(options.checkpoint or path, Path(folder)).items():
            for image in images:
                found = predictor.predict(image).labels
                truth = np.asarray(nibabel.load(options.data / "labelsTr" / image.name).dataobj)
                rows.setdefault(name, []).append([dice(found, truth, value) for value in (1, 2)])
                labels.setdefault(name, []).append(found)
    voxels = sum(array.size for array in labels["PyTorch"])
    results = {}
    print(f"{len(images)} cases, {voxels} voxels")
    print("| | anterior | posterior | mean | voxels unlike PyTorch |\n|---|---|---|---|---|")
    for name, scores in rows.items():
        anterior, posterior = np.mean(scores, axis=0).tolist()
        mean = (anterior + posterior) / 2
        pairs = zip(labels[name], labels["PyTorch"], strict=True)
        unlike = sum(int((found != expected).sum()) for found, expected in pairs)
        row = {"anterior": anterior, "posterior": posterior, "mean": mean}
        results[name] = {**row, "voxels_unlike_pytorch": unlike}
        print(f"| {name} | {anterior:.4f} | {posterior:.4f} | {mean:.4f} | {unlike} |")
    if options.out:
        options.out.write_text(json.dumps({"cases": len(images), "dice": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
