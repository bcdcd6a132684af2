"""TensorRT-RTX engines of whole networks, built ahead of time on a machine without a GPU.

    python benchmarks/gpu/rtx_engines.py --out rtx_engines.json

Every network is traced at its published tile and built in float32 and float16 for each target.
Seconds are the builder's, which runs on one thread; its peak is the building process's largest
resident size; device memory is the activation memory that the builder plans for one tile.
Weights are random: neither depends on them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from checkpoints import TILES, make_network
from turns import machine

from segmaformer.export.float16 import to_float16
from segmaformer.export.onnx_export import export_onnx
from segmaformer.export.plain_graph import plain_graph
from segmaformer.export.rewrites import apply_rewrites
from segmaformer.runtime.backends.tensorrt.rtx_build import TARGETS, build_rtx_engine
from segmaformer.runtime.errors import BackendError

ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")


def _variants(name: str) -> dict[str, Any]:
    channels, depth, height, width = TILES[name]
    traced, _ = apply_rewrites(export_onnx(make_network(name), (depth, height, width), channels))
    return {"fp32": traced, "fp16": to_float16(traced)[0]}


def measure(model: Any, target: str, batch: int) -> dict[str, Any]:
    """Build once; return its figures, or the reason of its failure."""
    start = time.perf_counter()
    plain = plain_graph(model, batch=1 if batch == 1 else None)
    row: dict[str, Any] = {
        "target": target,
        "batch": batch,
        "nodes": len(plain.graph.node),
        "substitution_seconds": time.perf_counter() - start,
    }
    logs: list[str] = []
    try:
        engine = build_rtx_engine(
            plain.SerializeToString(), target, batch=batch, keep_log=logs.append
        )
    except BackendError as error:
        return {**row, "error": str(error)}
    planned = ACTIVATIONS.search(logs[0])
    return {
        **row,
        "builder": engine.builder_version,
        "seconds": engine.seconds,
        "build_peak_mib": engine.build_peak_mib,
        "engine_mib": len(engine.content) / 2**20,
        "device_mib": int(planned[1]) / 2**20 if planned else None,
    }


def _line(name: str, variant: str, row: dict[str, Any]) -> str:
    head = f"| {name} | {variant} | {row['target']} | {row['batch']} | {row['nodes']} "
    if "error" in row:
        return f"{head}| {row['error']} |"
    return (
        f"{head}| {row['seconds']:.0f} | {row['build_peak_mib']:.0f} "
        f"| {row['engine_mib']:.0f} | {row['device_mib']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=["segmaformer", "segmamba"])
    parser.add_argument("--targets", nargs="+", default=["sm86"], choices=TARGETS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    print(
        "| network | variant | target | batch | nodes | s | builder MiB | engine MiB | device MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.names:
        for variant, model in _variants(name).items():
            rows = results.setdefault(name, {}).setdefault(variant, [])
            for target in options.targets:
                rows.append(measure(model, target, options.batch))
                print(_line(name, variant, rows[-1]), flush=True)
    if options.out:
        document = {"machine": machine(), "results": results}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
