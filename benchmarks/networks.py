"""Every network on one tile of its published size: the exported file against PyTorch, in one run.

    python benchmarks/networks.py --out networks.json

For each network one process exports, one runs the file in ONNX Runtime with the op library and
one runs PyTorch eager with the native scan, one after the other: two at once would not fit
into the memory of a small machine. Medians over the rounds are compared; peak memory is the
process's largest resident size. Weights are random: the work does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

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


def _network(name: str) -> Any:
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(0)
    preset = "abdomen" if name.startswith("taming") else "brats"
    return create_model(name, preset=preset).eval()


def _export(name: str, folder: Path, _rounds: int) -> dict[str, float]:
    import onnx

    from segmaformer.export.onnx_export import export_onnx
    from segmaformer.export.rewrites import apply_rewrites

    model = _network(name)
    channels, depth, height, width = TILES[name]
    start = time.perf_counter()
    exported, _ = apply_rewrites(export_onnx(model, (depth, height, width), channels))
    onnx.save(exported, folder / FILE)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "export_seconds": time.perf_counter() - start,
        "file_mib": (folder / FILE).stat().st_size / 2**20,
    }


def _onnxruntime(name: str, folder: Path, rounds: int) -> dict[str, float]:
    import onnxruntime

    from segmaformer.runtime.op_library import op_library_path

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.enable_mem_pattern = False  # as the backend opens it
    options.register_custom_ops_library(str(op_library_path()))
    session = onnxruntime.InferenceSession(
        folder / FILE, options, providers=["CPUExecutionProvider"]
    )
    run = _timed(lambda tile: session.run(None, {"tiles": tile})[0], name, rounds)
    np.save(folder / "onnxruntime.npy", run.pop("logits"))
    return {f"onnxruntime_{key}": value for key, value in run.items()}


def _pytorch(name: str, folder: Path, rounds: int) -> dict[str, float]:
    import torch

    model = _network(name)

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
    """Run once to warm up, then `rounds` times; with none, the first run is timed."""
    tile = np.random.default_rng(0).standard_normal((1, *TILES[name]), dtype=np.float32)
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        logits = forward(tile)
        seconds.append(time.perf_counter() - start)
    return {
        "logits": logits,
        "seconds": statistics.median(seconds[1:] or seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


STEPS = (_export, _onnxruntime, _pytorch)


def _answer(step: int, name: str, folder: Path, rounds: int, connection: Connection) -> None:
    connection.send(STEPS[step](name, folder, rounds))


def measure(name: str, rounds: int) -> dict[str, float]:
    """Parameters, size, seconds, peak memory and parity of one network."""
    context = multiprocessing.get_context("spawn")
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in range(len(STEPS)):
            here, there = context.Pipe()
            worker = context.Process(target=_answer, args=(step, name, Path(folder), rounds, there))
            worker.start()
            there.close()
            result.update(here.recv())
            worker.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(TILES), help="networks, default all")
    parser.add_argument("--rounds", type=int, default=3, help="0: time the first run")
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
        machine = {"processors": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        document = {"machine": machine, "results": results}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
