"""Every network at its published size: the command `sgmf export`, and one tile against PyTorch.

    python benchmarks/networks.py --out networks.json

For each network one process writes a checkpoint, one is the command as a person calls it, without
a scan, and one each runs the package's fp32 in the backends ``onnxruntime`` and ``openvino``, the
plain export in OpenVINO and PyTorch eager with the native scan, one after the other: two at once
would not fit into the memory of a small machine. OpenVINO has no such scan: its plain export
passes the scan's first input on, so that its numbers are no result. Tiles are the phantoms that
the command takes: noise, which has no flat background, hides what careless sums do to a real
scan. Medians over the rounds are compared, of what takes longer than ten seconds the one run;
peak memory is the process's largest resident size. Weights are random: the work does not depend
on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import TILES, make_network, write_checkpoint
from sgmf_export import PACKAGE, export, first_tile
from tile import leave_scans_out
from turns import available_threads, in_process, machine

PLAIN = "plain.onnx"
LONG_S = 10


def _checkpoint(name: str, folder: Path) -> str:
    return str(write_checkpoint(name, folder))


def _onnxruntime(_name: str, folder: Path, rounds: int) -> dict[str, Any]:
    from segmaformer.runtime import Package
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    package = Package.open(folder / PACKAGE)
    session = open_network(package.network("fp32"), threads=available_threads())
    return timed(lambda tile: session.run(None, {"tiles": tile})[0], first_tile(folder), rounds)


def _openvino(_name: str, folder: Path, rounds: int) -> dict[str, Any]:
    from segmaformer.runtime import Package

    return _in_openvino(Package.open(folder / PACKAGE).network("fp32"), first_tile(folder), rounds)


def _openvino_plain(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    in_process(_write_plain, name, folder)
    return _in_openvino((folder / PLAIN).read_bytes(), first_tile(folder), rounds)


def _in_openvino(network: Any, tile: np.ndarray, rounds: int) -> dict[str, Any]:
    from segmaformer.runtime.backends.openvino import open_network

    compiled = open_network(network, tile.shape, threads=available_threads(), errors=[])
    del network  # as large as the weights
    request = compiled.create_infer_request()
    return timed(
        lambda given: request.infer([given], share_inputs=True, share_outputs=True)[0], tile, rounds
    )


def _write_plain(name: str, folder: Path) -> None:
    """Write the network as traced, its scans left out."""
    import onnx

    from segmaformer.export.onnx_export import export_onnx

    channels, depth, height, width = TILES[name]
    plain = export_onnx(make_network(name), (depth, height, width), channels)
    leave_scans_out(plain)
    onnx.save(plain, folder / PLAIN)


def _pytorch(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    import torch

    model = make_network(name)

    def forward(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(tile)).numpy()

    return timed(forward, first_tile(folder), rounds)


RUNNERS = {
    "onnxruntime": ("sgmf", _onnxruntime),
    "openvino": ("sgmf openvino", _openvino),
    "openvino_plain": ("OpenVINO plain", _openvino_plain),
    "pytorch": ("PyTorch", _pytorch),
}
"""Who runs the tile: name in the table, and function."""


def timed(
    forward: Callable[[np.ndarray], np.ndarray], tile: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Run once to warm up, then `rounds` times; use the first run alone if it is long enough."""
    from segmaformer.runtime.system.memory import peak_mib

    seconds: list[float] = []
    while not seconds or (seconds[0] < LONG_S and len(seconds) <= rounds):
        start = time.perf_counter()
        forward(tile)
        seconds.append(time.perf_counter() - start)
    return {
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
            for who, (_, runner) in RUNNERS.items():
                run = in_process(runner, name, folder, rounds)
                result.update({f"{who}_{key}": value for key, value in run.items()})
    return result


def _row(name: str, found: dict[str, Any]) -> str:
    time_and_memory = [
        (found.get(f"{what}_seconds", float("nan")), found.get(f"{what}_peak_mib", float("nan")))
        for what in ("export", *RUNNERS)
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
    columns = ["network", "error", "bound", "PyTorch's", "equal labels"]
    for who in ("export", *(title for title, _ in RUNNERS.values())):
        columns += [f"{who} s", "MiB"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in options.names:
        results[name] = measure(name, ["--fp16"] * options.fp16, options.rounds)
        print(_row(name, results[name]), flush=True)
        if options.out:
            document = {"machine": machine(), "results": results}
            options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
