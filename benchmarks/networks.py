"""Every network at its published size: the command `sgmf export`, and one tile against PyTorch.

    python benchmarks/networks.py --out networks.json

For each network one process writes a checkpoint, one is the command as a person calls it, without
a scan, one runs the package's fp32 in ONNX Runtime with the op library and one runs PyTorch eager
with the native scan, one after the other: two at once would not fit into the memory of a small
machine. Tiles are the phantoms that the command takes: noise, which has no flat background, hides
what careless sums do to a real scan. Medians over the rounds are compared, of what takes longer
than ten seconds the one run; peak memory is the process's largest resident size. Weights are
random: the work does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import TILES, make_network, write_checkpoint
from turns import available_threads, in_process, machine

PACKAGE = "network.sgmf"
LONG_S = 10


def export(checkpoint: Path, target: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Run `sgmf export` as a user does.

    Returns
    -------
    dict
        ``exit_code``, seconds and peak memory of the command, what it said and, where it ended
        well, the figures of each variant and the size of its file.
    """
    command = [str(Path(sys.executable).with_name("sgmf")), "export", str(checkpoint)]
    command += ["-o", str(target), *options]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stderr=said, stdout=said, cwd=target.parent)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().splitlines()
    result: dict[str, Any] = {
        "exit_code": process.returncode,
        "export_seconds": time.perf_counter() - start,
        "export_peak_mib": usage.ru_maxrss / 1024,
        "said": lines,
    }
    return result if process.returncode else {**result, **_figures(target)}


def _figures(package: Path) -> dict[str, Any]:
    manifest = json.loads((package / "manifest.json").read_bytes())
    parity = manifest["variants"]["fp32"]["parity"]
    return {
        "parameters": manifest["network"]["parameters"],
        "file_mib": manifest["files"]["fp32.onnx"]["size"] / 2**20,
        "error": parity["relative_error"],
        "bound": parity["bound"],
        "noise": parity["noise"],
        "agreement": parity["label_agreement"],
        "variants": {name: each["parity"] for name, each in manifest["variants"].items()},
    }


def _checkpoint(name: str, folder: Path) -> str:
    return str(write_checkpoint(name, folder))


def _onnxruntime(folder: Path, rounds: int) -> dict[str, float]:
    from segmaformer.runtime import Package
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    package = Package.open(folder / PACKAGE)
    session = open_network(package.network("fp32"), threads=available_threads())
    run = _timed(lambda tile: session.run(None, {"tiles": tile})[0], _tile(folder), rounds)
    np.save(folder / "onnxruntime.npy", run.pop("logits"))
    return {f"onnxruntime_{key}": value for key, value in run.items()}


def _pytorch(name: str, folder: Path, rounds: int) -> dict[str, float]:
    import torch

    model = make_network(name)

    def forward(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(tile)).numpy()

    run = _timed(forward, _tile(folder), rounds)
    del run["logits"]
    return {f"pytorch_{key}": value for key, value in run.items()}


def _tile(folder: Path) -> np.ndarray:
    """Make the first phantom of the package, shape (1, C, D, H, W), float32."""
    from segmaformer.runtime import Package
    from segmaformer.runtime.parity.stored_reference import reference_tile

    manifest = Package.open(folder / PACKAGE).manifest
    return reference_tile(manifest.preprocessing, manifest.tiling)


def _timed(
    forward: Callable[[np.ndarray], np.ndarray], tile: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Run once to warm up, then `rounds` times; use the first run alone if it is long enough."""
    from segmaformer.runtime.system.memory import peak_mib

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


def measure(name: str, options: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return figures of the command, and seconds and peak memory of one tile."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint = Path(in_process(_checkpoint, name, folder))
        result: dict[str, Any] = in_process(export, checkpoint, folder / PACKAGE, options)
        if result["exit_code"] == 0 and rounds:
            result.update(in_process(_onnxruntime, folder, rounds))
            result.update(in_process(_pytorch, name, folder, rounds))
    return result


def _row(name: str, found: dict[str, Any]) -> str:
    time_and_memory = [
        (found.get(f"{what}_seconds", float("nan")), found.get(f"{what}_peak_mib", float("nan")))
        for what in ("export", "onnxruntime", "pytorch")
    ]
    cells = [f"{seconds:.1f} | {mib:.0f}" for seconds, mib in time_and_memory]
    if found["exit_code"]:
        return f"| {name} | exit {found['exit_code']}: {found['said'][-1]} | | | | {cells[0]} |"
    noise = "-" if found["noise"] is None else f"{found['noise']:.1e}"
    return (
        f"| {name} | {found['error']:.1e} | {found['bound']:.1e} | {noise} "
        f"| {found['agreement']:.4%} | {' | '.join(cells)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(TILES), help="networks, default all")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of networks that are not slow; 0: the command alone"
    )
    parser.add_argument("--fp16", action="store_true", help="export a float16 variant, too")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    print(
        "| network | error | bound | PyTorch's | equal labels | export s | MiB | sgmf s | MiB "
        "| PyTorch s | MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in options.names:
        results[name] = measure(name, ["--fp16"] * options.fp16, options.rounds)
        print(_row(name, results[name]), flush=True)
        if options.out:
            document = {"machine": machine(), "results": results}
            options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
