"""Processor seconds of ``sgmf infer`` until its first tile starts, a process for each run.

``python benchmarks/first_tile.py PACKAGE SCAN --out results/first_tile.json``. Modules are compiled
before, as an installation does.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import machine

import segmaformer

UNTIL_TILE = """
import os
from segmaformer.__main__ import start
from segmaformer.runtime.backends.onnxruntime_cpu import OnnxRuntimeSession

def stop(*_):
    os._exit(0)

OnnxRuntimeSession.run = OnnxRuntimeSession.run_coarse = stop
start()
raise SystemExit("the command ended without a tile")
"""


def run(package: Path, scan: Path, folder: str) -> float:
    """Return user and system time of a process that ends at the first tile, in seconds."""
    options = ["-m", str(package), "-o", f"{folder}/labels.nii.gz", "--backend", "onnxruntime"]
    command = [sys.executable, "-c", UNTIL_TILE, "infer", str(scan), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the command failed: {status}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for folder in segmaformer.__path__:
        compileall.compile_dir(folder, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        seconds = [run(given.package, given.scan, folder) for _ in range(given.runs)]
    result = {
        "machine": machine(),
        "runs": given.runs,
        "median_s": round(statistics.median(seconds), 3),
        "fastest_s": round(min(seconds), 3),
    }
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
