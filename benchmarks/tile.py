"""One tile of a network: this project against PyTorch, ONNX Runtime and OpenVINO, in one run.

    python benchmarks/tile.py segmaformer --out tile.json

Candidates take turns, see turns.py. OpenVINO has no such scan, so it gets the plain export in two
forms: with the scan's function body, a loop over tokens, in place of it, and with the scan left
out, which passes its first input on, so that its numbers are no result. Beside the times stand
the time of every operator in sgmf's ONNX Runtime session and two ceilings, see ceilings.py: the
fastest float32 product and the fastest copy that a library reaches on the same threads. What the
session's operators multiply at the first, or the least that has to be read and written at the
second, is the floor; beside it stands that of direct convolutions. Weights are random: the work
does not depend on them. Memory must hold all candidates at once.
"""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ceilings import ceilings
from turns import Run, available_threads, report, table, take_turns

NETWORKS = {
    "segmaformer": ("segmaformer", "brats", (4, 128, 128, 128)),
    "segmaformer-bctv": ("segmaformer", "bctv_fixed", (1, 48, 192, 192)),
    "segmamba": ("segmamba", "brats", (4, 128, 128, 128)),
    "bisegmamba": ("taming-bisegmamba", "abdomen", (1, 48, 192, 192)),
    "umamba-bot": ("umamba-bot", "abdomen", (1, 48, 192, 192)),
    "umamba-enc": ("umamba-enc", "abdomen", (1, 48, 192, 192)),
    "nnunet-plain": ("nnunet-plain", "abdomen", (1, 48, 192, 192)),
    "nnunet-resenc": ("nnunet-resenc", "abdomen", (1, 48, 192, 192)),
}
PLAIN, REWRITTEN = "plain.onnx", "rewritten.onnx"
BODIED, SCANLESS = "bodied.onnx", "scanless.onnx"
BASELINE = "PyTorch eager, native scan"
PROFILED_RUNS = 5
SGMF, OPENVINO = "sgmf, backend onnxruntime", "OpenVINO, plain export, scan left out"
CONVOLUTIONS = (
    *("Conv", "FusedConv", "Conv3d", "ConcatConv3d"),
    *("PatchEmbed", "DepthwiseConv3d", "CausalConv1dSilu"),
)

Candidates = dict[str, tuple[Callable[..., Run], tuple[Any, ...]]]


def _network(name: str) -> Any:
    import torch

    from segmaformer.models import create_model

    torch.manual_seed(0)
    architecture, preset, _ = NETWORKS[name]
    return create_model(architecture, preset=preset).eval()


def _tile(name: str) -> np.ndarray:
    shape = (1, *NETWORKS[name][2])
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def write_graphs(name: str, folder: Path) -> None:
    """Write the network as traced, as packages have it, and as traced but for its scans."""
    import onnx
    from onnx import inliner

    from segmaformer.export.onnx_export import export_onnx
    from segmaformer.export.rewrites import apply_rewrites, rewrite_for_cpu

    channels, depth, height, width = NETWORKS[name][2]
    plain = export_onnx(_network(name), (depth, height, width), channels)
    onnx.save(plain, folder / PLAIN)
    onnx.save(rewrite_for_cpu(apply_rewrites(plain)[0])[0], folder / REWRITTEN)
    onnx.save(inliner.inline_local_functions(plain), folder / BODIED)
    leave_scans_out(plain)
    onnx.save(plain, folder / SCANLESS)


def leave_scans_out(model: Any) -> None:
    """Let each scan of an ONNX model pass its first input on, in place."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "SelectiveScan":
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))


def pytorch(name: str, scan: str) -> Run:
    import torch

    from segmaformer.ops.reference import selective_scan_reference

    network, tile = _network(name), torch.from_numpy(_tile(name))
    if scan == "loop":
        for module in [m for key, m in sys.modules.items() if key.startswith("segmaformer.models")]:
            if hasattr(module, "selective_scan"):
                vars(module)["selective_scan"] = selective_scan_reference

    def run() -> np.ndarray:
        with torch.inference_mode():
            return network(tile).numpy()

    return run


def compiled_pytorch(name: str) -> Run:
    import torch

    network: Any = torch.compile(_network(name))
    tile = torch.from_numpy(_tile(name))

    def run() -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = network(tile).numpy()
        return logits

    return run


def onnxruntime(name: str, path: Path) -> Run:
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    session, tile = open_network(path.read_bytes(), threads=available_threads()), _tile(name)
    return lambda: session.run(None, {"tiles": tile})[0]


def two_tiles(name: str, path: Path) -> Run:
    """Run ONNX Runtime with one thread for each of two tiles at once."""
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    session, tile = open_network(path.read_bytes(), threads=1), _tile(name)
    pool = ThreadPoolExecutor(2)

    def run() -> np.ndarray:
        first, second = (pool.submit(session.run, None, {"tiles": tile}) for _ in range(2))
        second.result()
        logits: np.ndarray = first.result()[0]
        return logits

    return run


def openvino(name: str, path: Path, bfloat16: bool = False) -> Run:
    from segmaformer.runtime.backends.openvino import open_network

    tile = _tile(name)
    compiled = open_network(
        path.read_bytes(), tile.shape, threads=available_threads(), errors=[], bfloat16=bfloat16
    )
    request = compiled.create_infer_request()
    return lambda: request.infer([tile], share_inputs=True, share_outputs=True)[0]


def computes_bfloat16() -> bool:
    from openvino import Core

    return "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def candidates(name: str, folder: Path, *, loop: bool, compiled: bool) -> Candidates:
    """Measure all candidates; the first is the reference of the others' results."""
    plain, rewritten = folder / PLAIN, folder / REWRITTEN
    known: Candidates = {BASELINE: (pytorch, (name, "native"))}
    if loop:
        known["PyTorch eager, scan as a Python loop"] = (pytorch, (name, "loop"))
    if compiled:
        known["PyTorch, torch.compile, native scan"] = (compiled_pytorch, (name,))
    known["ONNX Runtime, plain export, native scan"] = (onnxruntime, (name, plain))
    known[SGMF] = (onnxruntime, (name, rewritten))
    if loop:
        known["sgmf, two tiles at once, a thread each"] = (two_tiles, (name, rewritten))
    if importlib.util.find_spec("openvino") is not None:
        scanless = folder / SCANLESS
        known[OPENVINO] = (openvino, (name, scanless))
        if computes_bfloat16():
            bfloat16 = "OpenVINO in bfloat16, plain export, scan left out"
            known[bfloat16] = (openvino, (name, scanless, True))
        if loop:
            bodied = folder / BODIED
            known["OpenVINO, plain export, scan as a loop"] = (openvino, (name, bodied))
        known["sgmf, backend openvino"] = (openvino, (name, rewritten))
    return known


def profile(name: str, path: Path, runs: int = PROFILED_RUNS) -> dict[str, Any]:
    """Return milliseconds, products and bytes of every kind of operator in one run."""
    import onnxruntime

    from segmaformer.runtime.bindings.op_library import register_op_library

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    options.enable_mem_pattern = False  # as the backend opens it
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    register_op_library(options)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tile = _tile(name)
    for _ in range(runs + 1):
        logits = session.run(None, {"tiles": tile})[0]
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event["name"].endswith("_kernel_time")]
    by_node = collections.defaultdict(list)
    for event in nodes:
        by_node[event["name"]].append(event)
    operators: dict[str, float] = collections.defaultdict(float)
    for timed in by_node.values():
        durations = [event["dur"] for event in timed[1:]]  # the first run lays memory out
        operators[timed[0]["args"]["op_name"]] += statistics.median(durations) / 1e3
    first = [timed[0]["args"] for timed in by_node.values()]
    weights = transposed_weights(path)

    def products(*, direct: bool) -> int:
        return sum(
            multiplications(
                timed[0]["args"], weights.get(name.removesuffix("_kernel_time"), ()), direct=direct
            )
            for name, timed in by_node.items()
        )

    return {
        "operators_ms": dict(sorted(operators.items(), key=lambda item: -item[1])),
        "multiplications": products(direct=False),
        "direct_multiplications": products(direct=True),
        "least_bytes": tile.nbytes + logits.nbytes + path.stat().st_size,
        "moved_bytes": sum(
            int(args[part + "_size"])
            for args in first
            for part in ("activation", "parameter", "output")
        ),
    }


def transposed_weights(path: Path) -> dict[str, tuple[int, ...]]:
    """Return shapes of the weights of transposed convolutions, which profiles lack."""
    import onnx

    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return {
        node.name: shapes[node.input[1]]
        for node in graph.node
        if node.op_type == "ConvTranspose" and node.input[1] in shapes
    }


def multiplications(
    args: dict[str, Any], transposed: tuple[int, ...] = (), *, direct: bool = False
) -> int:
    """Count the products of a convolution or matrix product, from the shapes that it ran on.

    `transposed` is the shape of a transposed convolution's weight; `direct` counts a dense
    convolution's without Winograd's filtering.
    """
    kind = args["op_name"]
    inputs, outputs = (
        [next(iter(entry.values())) for entry in args[f"{side}_type_shape"]]
        for side in ("input", "output")
    )
    if kind in ("Conv3d", "ConcatConv3d") and not direct:
        return _least_of_dense(inputs, outputs[0])
    if kind == "PatchEmbed" and not direct:
        return _least_of_patches(inputs, outputs[0])
    if kind == "FoldedNorm":
        return math.prod(inputs[0]) * inputs[1][1]
    if "Linear" in kind:
        return math.prod(outputs[0]) * inputs[1][0]
    if kind in CONVOLUTIONS:
        return math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if kind == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(transposed[1:])
    if kind == "ConvTranspose3d":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if kind in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm"):
        rows = outputs[0][-2] if len(outputs[0]) > 1 else 1
        return math.prod(outputs[0]) * (math.prod(inputs[0][-2:]) // rows)
    return 0


def _least_of_dense(inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    """Count a dense convolution's products by the minimal filtering of its kernel's large tiles."""
    (_, channels, depth_taps, taps, _), extents = inputs[1], inputs[0][2:]
    strides = [round(before / after) for before, after in zip(extents, output[2:], strict=True)]
    along_depth = {1: 1.0, 2: 2.5}[strides[0]] * (2 if depth_taps == 3 and strides[0] == 1 else 1)
    in_plane = 1.0 if taps == 1 else {1: 36 / 16, 2: 25 / 4}[strides[1]]
    return round(math.prod(output) * channels * along_depth * in_plane)


def _least_of_patches(inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    """Count a patch embedding's products, of minimal filtering where its kernel allows that."""
    x, weight = inputs[:2]
    direct = math.prod(output) * math.prod(weight[1:])
    axes = zip(x[2:], output[1:4], weight[2:], strict=True)
    strides = [(round(before / after), kernel) for before, after, kernel in axes]
    if any(kernel > 2 * stride for stride, kernel in strides):
        return direct
    shares = [(min(kernel, stride) + kernel) / (2 * kernel) for stride, kernel in strides]
    return round(direct * math.prod(shares))


def floor(work: dict[str, Any], limits: dict[str, float]) -> dict[str, float]:
    """Compute the milliseconds of the work at the ceilings.

    ``floor_ms`` is the larger of the products and of input, output and weights moved once;
    ``direct_ms`` counts every product of a dense convolution, where Winograd's filtering takes
    fewer; at ``moved_ms`` every operator reads and writes memory, as it does where none are fused.
    """
    products, direct = (
        1e3 * work[which] / limits["multiplications_per_s"]
        for which in ("multiplications", "direct_multiplications")
    )
    least, moved = (
        1e3 * work[f"{which}_bytes"] / limits["bytes_per_s"] for which in ("least", "moved")
    )
    return {
        "products_ms": products,
        "direct_ms": direct,
        "moved_ms": moved,
        "floor_ms": max(products, least),
    }


def measure(
    name: str, rounds: int, *, loop: bool, compiled: bool, few: bool = False
) -> dict[str, Any]:
    """Return the whole document; exporting and profiling have processes of their own."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            pool.apply(write_graphs, (name, folder))
            limits = pool.apply(ceilings)
            runs = 1 if few else PROFILED_RUNS
            work = pool.apply(profile, (name, folder / REWRITTEN, runs))
        known = candidates(name, folder, loop=loop, compiled=compiled)
        if few:
            known = {who: known[who] for who in (BASELINE, SGMF, OPENVINO)}
        results = take_turns(known, rounds)
    document = report(results, BASELINE)
    if any("OpenVINO" in candidate for candidate in results):
        document["machine"]["openvino"] = importlib.metadata.version("openvino")
    facts = {"ceilings": limits, "work": work, "floor": floor(work, limits)}
    return {**document, "network": name, **facts}


def summary(document: dict[str, Any]) -> str:
    """Print the document for people."""
    limits, work, least = document["ceilings"], document["work"], document["floor"]
    ours = document["results"][SGMF]["median_ms"]
    lines = [
        table(document),
        "",
        f"product {2e-9 * limits['multiplications_per_s']:.0f} GFLOP/s "
        f"({limits['fastest_product']}), "
        f"copy {1e-9 * limits['bytes_per_s']:.1f} GB/s ({limits['fastest_copy']})",
        f"{1e-9 * work['multiplications']:.2f} G multiplications: {least['products_ms']:.1f} ms, "
        f"with direct convolutions {least['direct_ms']:.1f} ms; "
        f"{1e-9 * work['moved_bytes']:.2f} GB through every operator: {least['moved_ms']:.1f} ms",
        f"floor {least['floor_ms']:.1f} ms; backend onnxruntime takes "
        f"{ours / least['floor_ms']:.1f} times that",
        "",
        "| operator | ms | part |",
        "|---|---:|---:|",
    ]
    total = sum(work["operators_ms"].values())
    lines += [f"| {k} | {v:.2f} | {v / total:.3f} |" for k, v in work["operators_ms"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network", choices=NETWORKS, nargs="?", default="segmaformer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--without-loop",
        action="store_true",
        help="nor two tiles at once: for large networks, where they take minutes and memory",
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile too: it takes minutes at first"
    )
    parser.add_argument(
        "--few",
        action="store_true",
        help="PyTorch eager, sgmf in ONNX Runtime and OpenVINO's plain export alone, profiled once",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    loop = not (options.without_loop or options.few)
    document = measure(
        options.network, options.rounds, loop=loop, compiled=options.compile, few=options.few
    )
    print(summary(document))
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
