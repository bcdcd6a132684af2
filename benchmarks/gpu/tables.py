"""Markdown tables of a document that `visit.py` wrote, for docs/reference/hardware.md.

python benchmarks/gpu/tables.py benchmarks/results/gpu/gpu_visit_h200.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OURS, MAMBA_SSM, FLOOR = "sgmf", "mamba-ssm", "copy of the same bytes"


def tables(document: Mapping[str, Any]) -> str:
    """Return the tables of the steps that found something."""
    writers = {
        "scan": _scan,
        "labels": _labels,
        "networks": _networks,
        "predictions": _predictions,
    }
    steps = document["steps"]
    return "\n\n".join(
        "\n".join(writer(steps[name]["found"]))
        for name, writer in writers.items()
        if steps.get(name, {}).get("found")
    )


def _scan(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| scan | type | copy, ms | ours, ms | mamba-ssm, ms | our error | mamba-ssm's |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for name, case in found["cases"].items():
        size, element_type = name.rsplit(" ", 1)
        rows = case["results"]
        times = [_number(rows.get(who, {}).get("median_ms")) for who in (FLOOR, OURS, MAMBA_SSM)]
        errors = [_error(rows.get(who, {}).get("error")) for who in (OURS, MAMBA_SSM)]
        yield f"| {' | '.join([size, element_type, *times, *errors])} |"


def _labels(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| scan | voxels | classes | labels that differ | GPU, s | processor, s |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, row in found.items():
        different = row["different"] + row["different_when_repeated"]
        seconds = f"{row['device_seconds']:.2f} | {row['processor_seconds']:.2f}"
        yield f"| {name} | {row['voxels']:,} | {row['labels']} | {different} | {seconds} |"


def _networks(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| network | runs in | variant | ms a tile | error over the range | labels equal |"
    yield "|---|---|---|---:|---:|---:|"
    for name, entry in found.items():
        rows = [("ONNX Runtime", run) for run in entry["runs"]]
        rows += [("PyTorch", entry["pytorch"])] if "pytorch" in entry else []
        for who, run in rows:
            if "reason" in run:
                yield f"| {name} | {who} | {run.get('variant', '')} | refused | | |"
                continue
            yield (
                f"| {name} | {who} | {run['variant']} | {1000 * run['seconds_per_tile']:.0f} "
                f"| {run['relative_error']:.1e} | {run['label_agreement']:.4%} |"
            )


def _predictions(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| network | scan | runs on | s | voxels | labels that differ |"
    yield "|---|---|---|---:|---:|---:|"
    for name, scans in found.items():
        for scan, runs in scans.items():
            if "reason" in runs:
                continue  # a variant that did not open has no scans
            for who, run in runs.items():
                seconds = f"{run['seconds']:.2f}"
                counts = f"{run['voxels']:,} | {run['different']}"
                yield f"| {name} | {scan} | {who} | {seconds} | {counts} |"


def _number(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.3f}"


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("document", type=Path)
    print(tables(json.loads(parser.parse_args().document.read_text())))


if __name__ == "__main__":
    main()
