"""One network of your own code: `sgmf export --module`, and one tile against PyTorch.

    python benchmarks/own_modules.py my_networks.unet:MyUNet --module-path code/ \
        --module-args '{"classes": 3}' --classes 3 --tile 64,64,64 --out own_modules.json

Weights are random, with one seed. The command is run as a person calls it, without a scan; then
PyTorch eager, ONNX Runtime and OpenVINO run the first of the command's phantom tiles by turns in
one process, so that other work on the machine slows all of them: ratios say more than seconds. An
error is the largest difference of logits from PyTorch's over their range. The results of a file
given by ``--out`` are kept beside the new one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sgmf_export import PACKAGE, export, first_tile
from turns import available_threads, in_process, machine

WEIGHTS, USE = "weights.pth", "use.json"
BACKENDS = ("onnxruntime", "openvino")
LONG_S = 10

Forward = Callable[[np.ndarray], np.ndarray]
"""Tile (1, C, D, H, W) -> logits (1, K, D, H, W), float32."""


@dataclass(frozen=True)
class Source:
    """Values of ``--module`` and its companions."""

    module: str
    module_path: Path | None
    module_args: str

    def build(self) -> Any:
        """Build the network; its random weights are always the same."""
        import torch

        from segmaformer.export.own_network.user_module import build_module

        _forget_this_folder()
        torch.manual_seed(0)
        return build_module(self.module, self.module_path, self.module_args).float().eval()

    def options(self, folder: Path) -> list[str]:
        found = ["--module", self.module, "--module-args", self.module_args]
        found += ["--use", str(folder / USE)]
        return found + (["--module-path", str(self.module_path)] if self.module_path else [])


def _forget_this_folder() -> None:
    """Make room for modules of the user that have the names of benchmarks."""
    folder = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != folder]
    for script in folder.glob("*.py"):
        sys.modules.pop(script.stem, None)


def write_inputs(source: Source, channels: int, classes: int, tile: Any, folder: Path) -> int:
    """Write weights and use of the network; returns its number of parameters."""
    import torch

    from segmaformer.export.own_network.own_module import Use
    from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

    network = source.build()
    torch.save(network.state_dict(), folder / WEIGHTS)
    use = Use(
        Preprocessing(
            tuple(f"channel {index}" for index in range(channels)),
            (Normalization("zscore"),) * channels,
        ),
        Tiling(tile),
        Output(tuple(Label(value, f"label {value}") for value in range(classes))),
    )
    (folder / USE).write_text(json.dumps(dataclasses.asdict(use)))
    return sum(parameter.numel() for parameter in network.parameters())


def count_scans(folder: Path) -> int:
    """Count the selective scans in the package's float32 network."""
    import onnx

    graph = onnx.load(folder / PACKAGE / "fp32.onnx").graph
    return sum(node.op_type == "SelectiveScan" for node in graph.node)


def open_backend(name: str, folder: Path) -> Forward:
    """Open the package in a backend; a BackendError tells why that refuses the network."""
    from segmaformer.runtime import Package
    from segmaformer.runtime.backends import BackendOptions, find_backend

    backend, options = find_backend(name, None), BackendOptions(threads=available_threads())
    assert backend is not None
    return backend.open(Package.open(folder / PACKAGE), "fp32", options).run


def open_pytorch(source: Source, folder: Path) -> Forward:
    """Build the network for PyTorch eager."""
    import torch

    from segmaformer.export.own_network.module_probe import FirstOutput
    from segmaformer.runtime import Package

    torch.set_num_threads(available_threads())
    outputs = Package.open(folder / PACKAGE).manifest.output.channels
    model = FirstOutput(source.build(), outputs)

    def forward(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(tile)).numpy()

    return forward


def run_engines(source: Source, folder: Path, rounds: int) -> dict[str, Any]:
    """Let PyTorch and the backends run the first tile by turns, the first of which warms up.

    Where PyTorch takes longer than :data:`LONG_S` the first turn counts.
    """
    from segmaformer.runtime.errors import BackendError

    found: dict[str, Any] = {}
    tile = first_tile(folder)
    engines: dict[str, Forward] = {"pytorch": open_pytorch(source, folder)}
    expected, first = _timed(engines["pytorch"], tile)
    seconds = {"pytorch": [first]}
    for name in BACKENDS:
        try:
            forward = open_backend(name, folder)
            logits, first = _timed(forward, tile)
        except BackendError as error:
            found[f"{name}_refused"] = str(error)
            continue
        engines[name], seconds[name] = forward, [first]
        found[f"{name}_error"] = _error(logits, expected)
    if seconds["pytorch"][0] < LONG_S:
        seconds = {name: [] for name in engines}
    while len(seconds["pytorch"]) < rounds:
        for name, forward in engines.items():
            seconds[name].append(_timed(forward, tile)[1])
    for name, each in seconds.items():
        found[f"{name}_seconds"] = statistics.median(each)
        found[f"{name}_turns"] = each
    return found


def _timed(forward: Forward, tile: np.ndarray) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    return forward(tile), time.perf_counter() - start


def measure(source: Source, inputs: tuple[int, int, Any], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield figures of the command, then also of one tile in every engine that runs it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parameters = in_process(write_inputs, source, *inputs, folder)
        found: dict[str, Any] = {"tile": inputs[2], "parameters": parameters}
        target = folder / PACKAGE
        found.update(in_process(export, folder / WEIGHTS, target, source.options(folder)))
        if not found["exit_code"]:
            found["scans"] = count_scans(folder)
        yield found
        if rounds and not found["exit_code"]:
            yield found | in_process(run_engines, source, folder, rounds)


def _error(logits: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(logits - expected).max() / np.ptp(expected))


def row(name: str, found: dict[str, Any]) -> str:
    """Write the figures as a row of a Markdown table."""
    tile = "x".join(str(size) for size in found["tile"])
    head = f"| {name} | {tile} | {found['parameters']:,} "
    if found["exit_code"]:
        return f"{head}| exit {found['exit_code']}: {found['said'][-1]} |"
    cells = [f"{found['scans']} | {found['export_seconds']:.0f} | {found['error']:.1e}"]
    cells.append(f"{found['export_peak_mib']:.0f}")
    for engine in ("pytorch", *BACKENDS):
        seconds = found.get(f"{engine}_seconds")
        refused = "refused" if f"{engine}_refused" in found else ""
        cells.append(refused if seconds is None else f"{seconds:.2f}")
    return f"{head}| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("module", help="PACKAGE.MODULE:NAME")
    parser.add_argument("--module-path", type=Path)
    parser.add_argument("--module-args", default="{}", help="JSON")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--tile", required=True, help="D,H,W")
    parser.add_argument("--name", help="in the table; default: of the class or function")
    parser.add_argument("--source", help="where the code is from, to be kept with the figures")
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of each engine; 0: the command alone"
    )
    parser.add_argument("--out", type=Path, help="JSON to add the figures to")
    options = parser.parse_args()
    tile = tuple(int(size) for size in options.tile.split(","))
    source = Source(options.module, options.module_path, options.module_args)
    name = options.name or options.module.partition(":")[2]
    inputs = (options.channels, options.classes, tile)
    for found in measure(source, inputs, options.rounds):
        found["source"] = options.source
        print(row(name, found), flush=True)
        if options.out:
            _keep(options.out, name, found)


def _keep(path: Path, name: str, found: dict[str, Any]) -> None:
    kept = json.loads(path.read_text()) if path.exists() else {"results": {}}
    kept["machine"] = machine()
    kept["results"][name] = found
    path.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
