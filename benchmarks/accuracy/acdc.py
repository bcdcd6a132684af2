"""Dice and HD95 of PyTorch and of a package's variants on ACDC's test scans, and their equality.

    python benchmarks/accuracy/acdc.py RUN/checkpoint_best.pth acdc.sgmf DATA --out accuracy.json

PyTorch runs in place of the package's network, in the same pipeline. Intervals are 95 % over scans.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from replaced_network import run_in_pytorch

from segmaformer.calibration.scores.confidence import METHOD, Mean, mean_over_cases
from segmaformer.calibration.scores.segmentation_scores import Scores, score_labels, structures
from segmaformer.checkpoint import load_checkpoint
from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.scans.formats import read_labels
from segmaformer.runtime.scans.spacing import training_spacing


def predictors(
    checkpoint: Path, package: Package, variants: Sequence[str] = ()
) -> dict[str, Predictor]:
    """Return the same pipeline around PyTorch, variants in ONNX Runtime, and OpenVINO.

    Each is named by what runs in it, PyTorch first. Without `variants` all of the package are
    taken; OpenVINO runs if fp32 is among them.
    """
    pytorch = Predictor(package, "onnxruntime", variant="fp32")
    run_in_pytorch(pytorch, load_checkpoint(checkpoint).model)
    found = [pytorch]
    chosen = variants or list(package.manifest.variants)
    found += [Predictor(package, "onnxruntime", variant=variant) for variant in chosen]
    if "fp32" in chosen:
        found.append(Predictor(package, "openvino", variant="fp32"))
    return {predictor.backend: predictor for predictor in found}


def score_scan(
    predictor: Predictor, scan: Path, truth: Path, expected: np.ndarray | None
) -> tuple[dict[str, Scores], np.ndarray, int]:
    """Segment one scan; return its scores, its labels and how many differ from `expected`."""
    found = predictor.predict(scan)
    manifest = predictor.package.manifest
    volume = found.volume
    spacing = training_spacing(volume.affine, volume.stated_spacing, manifest.preprocessing.reader)
    marked = read_labels(truth).voxels[0].astype(np.uint8)
    scores = score_labels(found.labels, marked, spacing, structures(manifest.output))
    unlike = 0 if expected is None else int((found.labels != expected).sum())
    return scores, found.labels, unlike


def summary(cases: list[dict[str, Scores]], unlike: int) -> dict[str, Any]:
    """Average over scans by structure, and over structures."""
    table: dict[str, Any] = {"voxels_unlike_pytorch": unlike}
    for figure in ("dice", "hd95_mm"):
        rows = [{name: getattr(score, figure) for name, score in case.items()} for case in cases]
        means = {name: mean_over_cases(row[name] for row in rows) for name in rows[0]}
        means["mean"] = mean_over_cases(_mean(row.values()) for row in rows)
        table[figure] = {
            name: None if mean is None else dataclasses.asdict(mean) for name, mean in means.items()
        }
    return table


def _mean(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def print_table(rows: dict[str, Any], figure: str) -> None:
    """Print a figure as a Markdown table."""
    names = list(next(iter(rows.values()))[figure])
    print(f"\n| {figure} | {' | '.join(names)} | voxels unlike PyTorch |")
    print("|---" * (len(names) + 2) + "|")
    for name, row in rows.items():
        cells = [_cell(None if row[figure][n] is None else Mean(**row[figure][n])) for n in names]
        print(f"| {name} | {' | '.join(cells)} | {row['voxels_unlike_pytorch']} |")


def _cell(mean: Mean | None) -> str:
    if mean is None or mean.low is None or mean.high is None:
        return "" if mean is None else f"{mean.value:.4f}"
    return f"{mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}]"


def main() -> None:
    """Score all test scans, or the first ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--variants", nargs="*", default=(), help="default: all of the package")
    parser.add_argument("--most", type=int, help="number of scans; default: all")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scans = sorted((options.data / "imagesTs").glob("*.nii.gz"))[: options.most]
    compared = predictors(options.checkpoint, Package.open(options.package), options.variants)
    cases: dict[str, list[dict[str, Scores]]] = {name: [] for name in compared}
    unlike = dict.fromkeys(compared, 0)
    voxels = 0
    for scan in scans:
        expected = None
        for name, predictor in compared.items():
            truth = options.data / "labelsTs" / scan.name
            scores, labels, different = score_scan(predictor, scan, truth, expected)
            expected = labels if expected is None else expected
            cases[name].append(scores)
            unlike[name] += different
        voxels += 0 if expected is None else expected.size
    rows = {name: summary(cases[name], unlike[name]) for name in compared}
    print(f"{len(scans)} scans, {voxels} voxels")
    for figure in ("dice", "hd95_mm"):
        print_table(rows, figure)
    if options.out:
        document = {"scans": len(scans), "voxels": voxels, "confidence": METHOD, "rows": rows}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
