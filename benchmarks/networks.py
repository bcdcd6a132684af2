"""Every network on one tile of its published size: the exported file against PyTorch, in one run.

    python benchmarks/networks.py --out networks.json

For each network one process exports, one runs the file in ONNX Runtime with the op library and
one runs PyTorch eager with the native scan, one after the other: two at once would not fit
into the memory of a small machine. Medians over the rounds are compared, of what takes longer than
ten seconds the one run; peak memory is the process's largest resident size. Weights are random: the
work does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns import available_threads, in_process, machine

BRATS, ABDOMEN = (4, 128, 128, 128), (1, 48, 192, 192)
TILES = {
    "segmaformer": BRATS,
    "segformer3d": BRATS,
    "segmamba": BRATS,
    "segresmamba": BRATS,
    "taming-segmamba": ABDOMEN,
    "taming-bisegmamba": ABDOMEN,
    "taming-multisegmamba": ABDOMEN,
    "taming-segmambaskip": ABDOMEN,
}
FILE = "fp32.onnx"
LONG_S = 10


def make_network(name: str) -> Any:
    """A network in its published configuration, with random weights, the same at every call."""
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(0)
    preset = "abdomen" if name.startswith("taming") else "brats"
    return create_model(name, preset=preset).eval()


def _export(name: str, folder: Path, _rounds: int) -> dict[str, float]:
    import onnx

    from segmaformer.export.onnx_export import export_onnx
    from segmaformer.export.rewrites import apply_rewrites, rewrite_for_cpu

    model = make_network(name)
    channels, depth, height, width = TILES[name]
    start = time.perf_counter()
    exported, _ = apply_rewrites(export_onnx(model, (depth, height, width), channels))
    onnx.save(rewrite_for_cpu(exported)[0], folder / FILE)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "export_seconds": time.perf_counter() - start,
        "file_mib": (folder / FILE).stat().st_size / 2**20,
    }


def _onnxruntime(name: str, folder: Path, rounds: int) -> dict[str, float]:
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    session = open_network((folder / FILE).read_bytes(), threads=available_threads())
    run = _timed(lambda tile: session.run(None, {"tiles": tile})[0], name, rounds)
    np.save(folder / "onnxruntime.npy", run.pop("logits"))
    return {f"onnxruntime_{key}": value for key, value in run.items()}


def _pytorch(name: str, folder: Path, rounds: int) -> dict[str, float]:
    import torch

    model = make_network(name)

    def forward(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(tile)).numpy()

    run = _timed(forward, name, rounds)
    expected = run.pop("logits")
    difference = np.abs(np.load(folder / "onnxruntime.npy") - expected).max()
    return {
        **{f"pytorch_{key}": value for key, value in run.items()},
        "difference_over_range": float(difference / np.ptp(expected)),
    }


def _timed(forward: Callable[[np.ndarray], np.ndarray], name: str, rounds: int) -> dict[str, Any]:
    """Run once to warm up, then `rounds` times; a first run that is long enough is the measure."""
    from segmaformer.runtime.memory import peak_mib

    tile = np.random.default_rng(0).standard_normal((1, *TILES[name]), dtype=np.float32)
    seconds: list[float] = []
    while not seconds or (seconds[0] < LONG_S and len(seconds) <= rounds):
        start = time.perf_counter()
        logits = forward(tile)
        seconds.append(time.perf_counter() - start)
    return {
        "logits": logits,
        "seconds": statistics.median(seconds[1:] or seconds),
        "peak_mib": peak_mib(),
    }


def measure(name: str, rounds: int) -> dict[str, float]:
    """Parameters, size, seconds, peak memory and parity of one network."""
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in (_export, _onnxruntime, _pytorch):
            result.update(in_process(step, name, Path(folder), rounds))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(TILES), help="networks, default all")
    parser.add_argument("--rounds", type=int, default=3, help="of networks that are not slow")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    print(
        "| network | parameters | export s | file MiB | sgmf s | MiB | PyTorch s | MiB | parity |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.names:
        row = results[name] = measure(name, options.rounds)
        print(
            f"| {name} | {row['parameters']:,} | {row['export_seconds']:.0f} "
            f"| {row['file_mib']:.0f} | {row['onnxruntime_seconds']:.2f} "
            f"| {row['onnxruntime_peak_mib']:.0f} | {row['pytorch_seconds']:.2f} "
            f"| {row['pytorch_peak_mib']:.0f} | {row['difference_over_range']:.1e} |",
            flush=True,
        )
    if options.out:
        document = {"machine": machine(), "results": results}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
