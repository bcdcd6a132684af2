"""One BraTS tile (4 x 128^3) of SegMaFormer: this project against PyTorch, in one run.

    python benchmarks/brats_tile.py --out brats_tile.json

Candidates run in turn, round after round, each in a process of its own that stays up; medians are
compared. Peak memory is the process's largest resident size. Weights are random: the work
does not depend on them.
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

import numpy as np

SHAPE = (1, 4, 128, 128, 128)


def _network() -> object:
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(0)
    return create_model("segmaformer", preset="brats").eval()


def _pytorch(scan: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    import segmaformer.models.mamba as mamba
    from segmaformer.ops.reference import selective_scan_reference

    if scan == "loop":
        mamba.selective_scan = selective_scan_reference  # type: ignore[assignment]
    model = _network()

    def run(tile: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(tile)).numpy()  # type: ignore[operator]

    return run


def _onnxruntime(path: str, op_library: bool) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    from segmaformer.runtime.op_library import op_library_path

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    if op_library:
        options.register_custom_ops_library(str(op_library_path()))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"tiles": tile})[0]


def _candidates(folder: Path) -> dict[str, Callable[[], Callable[[np.ndarray], np.ndarray]]]:
    plain, rewritten = str(folder / "plain.onnx"), str(folder / "rewritten.onnx")
    return {
        "PyTorch eager, scan as a Python loop": lambda: _pytorch("loop"),
        "PyTorch eager, native scan": lambda: _pytorch("native"),
        "ONNX Runtime, plain export, function body": lambda: _onnxruntime(plain, False),
        "ONNX Runtime, plain export, native scan": lambda: _onnxruntime(plain, True),
        "sgmf package: rewritten graph, native scan": lambda: _onnxruntime(rewritten, True),
    }


def _write_graphs(folder: Path) -> None:
    from segmaformer.export.onnx_export import export_onnx
    from segmaformer.export.rewrites import apply_rewrites

    plain = export_onnx(_network(), SHAPE[2:], SHAPE[1])  # type: ignore[arg-type]
    (folder / "plain.onnx").write_bytes(plain.SerializeToString())
    (folder / "rewritten.onnx").write_bytes(apply_rewrites(plain)[0].SerializeToString())


def _serve(name: str, folder: Path, connection: Connection) -> None:
    run = _candidates(folder)[name]()
    tile = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    logits = run(tile)
    connection.send(logits[:, :, ::8, ::8, ::8])
    while connection.recv():
        start = time.perf_counter()
        run(tile)
        connection.send(time.perf_counter() - start)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds, peak memory and largest difference to PyTorch for every candidate."""
    context = multiprocessing.get_context("spawn")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = context.Process(target=_write_graphs, args=(folder,))
        writer.start()
        writer.join()
        links, samples = {}, {}
        for candidate in _candidates(folder):
            here, there = context.Pipe()
            context.Process(target=_serve, args=(candidate, folder, there), daemon=True).start()
            links[candidate], samples[candidate] = here, here.recv()
        seconds: dict[str, list[float]] = {candidate: [] for candidate in links}
        for _ in range(rounds):
            for candidate, link in links.items():
                link.send(True)
                seconds[candidate].append(link.recv())
        expected = samples["PyTorch eager, native scan"]
        for candidate, link in links.items():
            link.send(False)
            results[candidate] = {
                "seconds_median": statistics.median(seconds[candidate]),
                "seconds_min": min(seconds[candidate]),
                "seconds_max": max(seconds[candidate]),
                "peak_mib": link.recv(),
                "largest_difference": float(np.abs(samples[candidate] - expected).max()),
            }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = measure(options.rounds)
    ours = results["sgmf package: rewritten graph, native scan"]["seconds_median"]
    print("| candidate | median s | over sgmf | peak MiB | difference |")
    print("|---|---|---|---|---|")
    for name, row in results.items():
        print(
            f"| {name} | {row['seconds_median']:.3f} | {row['seconds_median'] / ours:.2f} "
            f"| {row['peak_mib']:.0f} | {row['largest_difference']:.1e} |"
        )
    if options.out:
        machine = {"processors": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        document = {"machine": machine, "results": results}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
