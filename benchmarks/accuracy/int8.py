"""int8 of the reference model: accuracy by range choice, real scans against noise, and speed.

    python benchmarks/accuracy/int8.py DATA --out int8.json

DATA holds ``imagesTr`` and ``labelsTr`` of the Medical Segmentation Decathlon's Task04. Every
fifth case in name order was never trained on and judges; the others calibrate. Speed is the
processor time of one thread for one tile, variants in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import nibabel
import numpy as np
import onnx
from hippocampus_dice import dice
from replaced_network import replace_network
from turns import machine

from segmaformer.calibration.flavours import CPU, FLAVOURS
from segmaformer.calibration.int8_variant import int8_variant
from segmaformer.calibration.measurement import Measurement, measure
from segmaformer.calibration.ranges import METHODS, choose_scale
from segmaformer.calibration.statistics import observe
from segmaformer.checkpoint import load_checkpoint
from segmaformer.export.pipeline import ExportOptions, export_package
from segmaformer.runtime import Package, Predictor
from segmaformer.runtime.backends.onnxruntime_cpu import open_network

LABELS = (1, 2)
ROUNDS = 12


@dataclass(frozen=True)
class Row:
    """Compare one variant with fp32 on the held-out cases."""

    name: str
    agreement: float
    dice: list[float]
    lowest_dice: float
    dice_drop: list[float]


class Judge:
    """Compare a network's label maps on the held-out cases with those of fp32."""

    def __init__(self, package: Package, data: Path, images: list[Path]):
        self._predictor = Predictor(package, backend="onnxruntime", variant="fp32")
        self._prepared = [self._predictor.prepare(image) for image in images]
        self._truth = [
            np.asarray(nibabel.load(data / "labelsTr" / image.name).dataobj) for image in images
        ]
        self._reference = self._labels(package.read("fp32.onnx"))

    def _labels(self, content: bytes) -> list[np.ndarray]:
        session = open_network(content, threads=2)
        replace_network(
            self._predictor, lambda tiles: session.run(None, {"tiles": tiles})[0], "candidate"
        )
        return [self._predictor.segment(each).labels for each in self._prepared]

    def row(self, name: str, model: onnx.ModelProto) -> Row:
        found = self._labels(model.SerializeToString())
        equal = sum(int((a == b).sum()) for a, b in zip(found, self._reference, strict=True))
        near, drop = [], []
        for labels, reference, truth in zip(found, self._reference, self._truth, strict=True):
            near.append([dice(labels, reference, value) for value in LABELS])
            drop.append([dice(reference, truth, v) - dice(labels, truth, v) for v in LABELS])
        return Row(
            name,
            equal / sum(labels.size for labels in found),
            np.mean(near, axis=0).tolist(),
            float(np.min(near)),
            np.mean(drop, axis=0).tolist(),
        )


def candidates(measurement: Measurement) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Make both flavours for each range choice, from real tiles and from noise of unit variance."""
    tiles = measurement.tiles.calibration.tiles
    noise = np.random.default_rng(0).standard_normal(tiles.shape).astype(np.float32)
    for source, shown in (("scans", tiles), ("noise", noise)):
        histograms = observe(measurement.model, list(measurement.scales), shown)
        for method in METHODS:
            scales = {name: choose_scale(each, method) for name, each in histograms.items()}
            altered = Measurement(
                measurement.model, measurement.layers, measurement.tiles, method, scales
            )
            for flavour in FLAVOURS:
                yield f"{flavour.variant}, {source}, {method}", int8_variant(altered, flavour).model


def speed(measurement: Measurement) -> dict[str, float]:
    """Measure processor milliseconds of one thread for one tile, the least of all turns."""
    models = {"fp32": measurement.model}
    models |= {each.variant: int8_variant(measurement, each).model for each in FLAVOURS}
    sessions = {
        name: open_network(model.SerializeToString(), threads=1) for name, model in models.items()
    }
    tile = np.ascontiguousarray(measurement.tiles.calibration.tiles[:1])
    least = dict.fromkeys(sessions, np.inf)
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            start = time.thread_time()
            session.run(None, {"tiles": tile})
            least[name] = min(least[name], 1000 * (time.thread_time() - start))
    return least


def report(rows: list[Row], milliseconds: dict[str, float]) -> None:
    print("| | labels equal | Dice to fp32 | lowest | drop of Dice |\n|---|---|---|---|---|")
    for row in rows:
        near, drop = (
            ", ".join(f"{value:.4f}" for value in values) for values in (row.dice, row.dice_drop)
        )
        print(f"| {row.name} | {row.agreement:.3%} | {near} | {row.lowest_dice:.4f} | {drop} |")
    for name, value in milliseconds.items():
        print(f"{name}: {value:.1f} ms, {milliseconds['fp32'] / value:.2f} times as fast as fp32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, help="held-out cases to judge by; all by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images = sorted((options.data / "imagesTr").glob("*.nii.gz"))
    bundled = resources.files("segmaformer") / "reference_models/hippocampus/checkpoint_final.pth"
    with tempfile.TemporaryDirectory() as name, resources.as_file(bundled) as path:
        folder = Path(name)
        (folder / "scans").mkdir()
        for image in set(images) - set(images[::5]):
            (folder / "scans" / image.name).symlink_to(image.resolve())
        package = export_package(load_checkpoint(path), folder / "m.sgmf", ExportOptions())
        measurement = measure(package, folder / "scans", report=print)
        judge = Judge(package, options.data, images[::5][: options.cases])
        rows = [judge.row(*candidate) for candidate in candidates(measurement)]
        sizes = {
            each.variant: len(int8_variant(measurement, each).model.SerializeToString())
            / len(package.read("fp32.onnx"))
            for each in FLAVOURS
        }
        milliseconds = speed(measurement)
    report(rows, milliseconds)
    if options.out:
        result: dict[str, Any] = {
            "machine": machine(),
            "cases": len(images[::5][: options.cases]),
            "rows": [row.__dict__ for row in rows],
            "size_of_fp32": sizes,
            "ms": milliseconds,
            "speedup": milliseconds["fp32"] / milliseconds[CPU.variant],
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
