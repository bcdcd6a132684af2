"""`sgmf export` as a user runs it, and the tile on which the package is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = "network.sgmf"


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


def first_tile(folder: Path) -> np.ndarray:
    """Make the first phantom of the package, shape (1, C, D, H, W), float32."""
    from segmaformer.runtime import Package
    from segmaformer.runtime.parity.stored_reference import reference_tile

    return reference_tile(Package.open(folder / PACKAGE).manifest)
