"""int8-cpu against fp32 in ONNX Runtime for several networks: one tile, on one thread and on all.

    python benchmarks/int8_speed.py --out int8_speed.json

Every candidate layer is in int8, at scales from a phantom tile. Weights are random, so that labels
mean nothing here: the work does not depend on them. Candidates take turns, see turns.py. The
processor must have int8 dot products (AVX-512 VNNI or AMX).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from turns import Run, available_threads, in_process, report, take_turns

SMALL_PLAN = {
    "input_channels": 1,
    "features_per_stage": [32, 64],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2],
    "n_conv_per_stage_decoder": [2],
}
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "SegMaFormer, BraTS": ("segmaformer", {"preset": "brats"}, (4, 128, 128, 128)),
    "SegFormer3D": ("segformer3d", {}, (4, 64, 64, 64)),
    "Taming SegMamba, two stages": ("taming-segmamba", SMALL_PLAN, (1, 16, 64, 64)),
    "SegMamba": ("segmamba", {}, (4, 64, 64, 64)),
    "U-Mamba Bot": ("umamba-bot", {"preset": "abdomen"}, (1, 48, 192, 192)),
    "nnU-Net, plain": ("nnunet-plain", {"preset": "abdomen"}, (1, 48, 192, 192)),
}


def write_graphs(name: str, folder: Path) -> None:
    """Write the network as packages have it, and with int8 placed as calibration does for CPUs."""
    import onnx
    import torch

    from segmaformer.calibration.flavours import CPU
    from segmaformer.calibration.int8_variant import with_large_weights
    from segmaformer.calibration.layers import find_layers
    from segmaformer.calibration.placement import place
    from segmaformer.calibration.ranges import choose_scale
    from segmaformer.calibration.statistics import observe
    from segmaformer.export.onnx_export import export_onnx
    from segmaformer.export.rewrites import apply_rewrites, rewrite_for_cpu
    from segmaformer.models import create_model

    architecture, config, (channels, depth, height, width) = NETWORKS[name]
    torch.manual_seed(0)
    model = create_model(architecture, **config).eval()
    exported, _ = apply_rewrites(export_onnx(model, (depth, height, width), channels))
    fp32, _ = rewrite_for_cpu(exported)
    onnx.save(fp32, folder / "fp32.onnx")
    layers = find_layers(fp32)
    chosen = CPU.candidates(layers)
    tensors = CPU.observed(chosen)
    histograms = observe(fp32, tensors, make_tile(name))
    scales = {tensor: choose_scale(histograms[tensor], "mse") for tensor in tensors}
    held = tuple(layer for layer in with_large_weights(layers) if layer not in chosen)
    onnx.save(place(fp32, chosen, scales, CPU, weights_only=held), folder / "int8_cpu.onnx")


def make_tile(name: str) -> np.ndarray:
    """Make a phantom, shape (1, C, D, H, W), float32."""
    from segmaformer.runtime.parity.tiles import phantom_tiles
    from segmaformer.runtime.spec import Normalization

    channels, depth, height, width = NETWORKS[name][2]
    normalization = (Normalization("zscore"),) * channels
    return phantom_tiles(normalization, (depth, height, width), count=1)


def prepare(name: str, path: Path, threads: int) -> Run:
    """Return a function that runs one file."""
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    session, tile = open_network(path.read_bytes(), threads=threads), make_tile(name)
    return lambda: session.run(None, {"tiles": tile})[0]


def measure(name: str, threads: int, rounds: int) -> dict[str, Any]:
    """Measure fp32 and int8-cpu of one network; returns the document of :func:`turns.report`."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        in_process(write_graphs, name, folder)
        files = {"fp32": folder / "fp32.onnx", "int8-cpu": folder / "int8_cpu.onnx"}
        candidates = {variant: (prepare, (name, file, threads)) for variant, file in files.items()}
        return report(take_turns(candidates, rounds), "fp32")


def table_row(name: str, threads: int, results: dict[str, dict[str, float]]) -> str:
    """Write one row of the table in docs/explanation/int8.md."""
    tile = "x".join(map(str, NETWORKS[name][2]))
    fp32, int8 = results["fp32"], results["int8-cpu"]
    return (
        f"| {name} | {tile} | {threads} | {fp32['median_ms']:.1f} | {int8['median_ms']:.1f} "
        f"| {int8['speedup']:.2f} |"
    )


def main() -> None:
    """Measure, print the table and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help="networks, default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    print("| network | tile | threads | fp32 ms | `int8-cpu` ms | times as fast |")
    print("|---|---|---:|---:|---:|---:|")
    for name in options.names:
        for threads in sorted({1, available_threads()}):
            document = measure(name, threads, options.rounds)
            results.setdefault(name, {})[f"threads {threads}"] = document
            print(table_row(name, threads, document["results"]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
