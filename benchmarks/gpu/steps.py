"""Steps of `visit.py`, each run in a process of its own.

    python benchmarks/gpu/steps.py --work FOLDER STEP FOUND.json

A step writes what it has found so far to the file; exit code 77 says that it cannot run here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu import cuda_scan
from gpu import labels as gpu_labels
from gpu import networks as gpu_networks
from gpu.visit import OUTPUT_CHARACTERS, SKIPPED

from segmaformer.runtime.bindings.cuda_driver import CudaDevice

ROOT = Path(__file__).resolve().parents[2]
TESTS_ON_A_GPU = (
    "tests/runtime/native/cuda",
    "tests/runtime/bindings/test_cuda_driver.py",
    "tests/runtime/bindings/test_cuda_library.py",
    "tests/runtime/native/onnxruntime/test_onnxruntime_cuda_op.py",
    "tests/runtime/backends/test_onnxruntime_cuda.py",
    "tests/export/engines/test_tensorrt_on_a_gpu.py",
)
THEIR_NAMES = "GPU or real_driver or installed or plan_needs or refused_scan"
OTHER_TESTS = (
    "tests/runtime/backends",
    "tests/runtime/bindings",
    "tests/runtime/engines",
    "tests/segmaformer/cli/commands/test_doctor_command.py",
)
"""Tests that pretend a machine, and may have taken for granted that it has no GPU."""

PYTEST = "import sys, pytest; sys.path.remove(''); sys.exit(pytest.main(sys.argv[1:]))"
"""Without the root on the path, whose folders would shadow the installed package."""

COPY_BYTES = 4 << 30


class SkipStepError(Exception):
    """A step cannot run here; the text says why."""


@dataclass(frozen=True)
class Place:
    """Folders that a step reads and writes, and what keeps its findings.

    Attributes
    ----------
    work
        Folder of packages.
    scans
        Folder of real scans for the reference model; None for phantoms alone.
    save
        Keeps what was found so far.
    """

    work: Path
    scans: Path | None
    save: Callable[[dict[str, Any]], None]


def device(place: Place) -> None:
    """Report device, driver, versions, `sgmf doctor` and the bandwidths of copies."""
    import torch

    if not torch.cuda.is_available():
        raise SkipStepError("PyTorch finds no GPU")
    found = cuda_scan.machine() | {
        "driver": _said("nvidia-smi", *_SMI),
        "nvcc": _said("nvcc", "-V"),
    }
    found["doctor"] = _said(sys.executable, "-m", "segmaformer", "doctor", cwd=place.work)
    place.save(found)
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    there = torch.empty_like(source)
    pinned = torch.zeros(COPY_BYTES >> 4, dtype=torch.uint8, pin_memory=True)
    part = source[: len(pinned)]
    copies = {
        "copy_on_device": (2 * COPY_BYTES, lambda: there.copy_(source)),
        "copy_in": (len(pinned), lambda: part.copy_(pinned, non_blocking=True)),
        "copy_out": (len(pinned), lambda: pinned.copy_(part, non_blocking=True)),
    }
    clock = cuda_scan.device_clock()
    for name, (moved, copy) in copies.items():
        milliseconds = sorted(clock(copy) for _ in range(12))[:6]
        found[f"{name}_gigabytes_per_s"] = moved / milliseconds[3] / 1e6
    place.save(found)


_SMI = "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"


def _said(*command: str, cwd: Path | None = None) -> str:
    """Return the output of a command, or why there is none."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (run.stdout + run.stderr).strip()


def tests(place: Place) -> None:
    """Run the tests that skip where there is no GPU."""
    _pytest(place, [], *TESTS_ON_A_GPU, "-k", THEIR_NAMES)


def other_tests(place: Place) -> None:
    """Run tests that pretend a machine, where there is a GPU."""
    _pytest(place, [], *OTHER_TESTS)


def memcheck(place: Place) -> None:
    """Let compute-sanitizer look for accesses out of bounds in the kernels."""
    _sanitize(place, "memcheck")


def racecheck(place: Place) -> None:
    """Let compute-sanitizer look for races in shared memory of the kernels."""
    _sanitize(place, "racecheck")


def _sanitize(place: Place, tool: str) -> None:
    name = "compute-sanitizer"
    program = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    if program is None:
        raise SkipStepError(f"no {name} on the path; it comes with the CUDA toolkit")
    log = place.work / f"{tool}.log"
    log = place.work / f"{tool}.log"
    prefix = [program, "--tool", tool, "--log-file", str(log)]
    found = _pytest(place, prefix, "tests/runtime/native/cuda", "-k", "GPU", check=False)
    said = log.read_text(errors="replace") if log.exists() else ""
    print(said)
    place.save(found | {"said": said[-OUTPUT_CHARACTERS:]})
    # racecheck warns of what a warp's threads do in turns; errors are between warps.
    summary = re.search(r"SUMMARY: .*?(\d+) errors?", said)
    if summary is None or summary[1] != "0" or found["failed"]:
        raise SystemExit(f"{tool} complains")


def _pytest(place: Place, prefix: list[str], *arguments: str, check: bool = True) -> dict[str, Any]:
    """Run tests; return their verdicts."""
    verdicts = place.work / "tests.xml"
    verdicts.unlink(missing_ok=True)
    command = [*prefix, sys.executable, "-u", "-c", PYTEST, "-v", "--tb=short"]
    command += [f"--junitxml={verdicts}", "-p", "no:cacheprovider", *arguments]
    exit_code = subprocess.run(command, cwd=ROOT).returncode
    found: dict[str, Any] = {"exit_code": exit_code, **_verdicts(verdicts)}
    place.save(found)
    if check and (exit_code or found["failed"]):
        raise SystemExit(f"tests failed: {found['failed'] or exit_code}")
    return found


def _verdicts(path: Path) -> dict[str, Any]:
    """Return names of tests that passed and failed, and reasons of those that were skipped."""
    passed, failed, skipped = [], [], {}
    cases: Iterator[Any] = iter(())
    if path.exists():
        cases = xml.etree.ElementTree.parse(path).iter("testcase")
    for case in cases:
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        reason = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif reason is not None:
            skipped[name] = reason.get("message", "")
        else:
            passed.append(name)
    return {"passed": passed, "failed": failed, "skipped": skipped}


def labels(place: Place) -> None:
    """Compare sums and labels on the device with the processor's, byte for byte."""
    found = {}
    for name, case in gpu_labels.CASES.items():
        found[name] = gpu_labels.compare(case, CudaDevice())
        place.save(found)
    wrong = [name for name, row in found.items() if row["different"]]
    if wrong:
        raise SystemExit(f"labels differ: {wrong}")


def scan(place: Place) -> None:
    """Measure the scan, mamba-ssm's, and a copy of the same bytes; errors against float64."""
    cases = {}
    for name, sizes in cuda_scan.SIZES.items():
        for element_type in cuda_scan.ELEMENT_TYPES:
            cases[f"{name} {element_type}"] = cuda_scan.measure(sizes, element_type, 20)
            place.save({"machine": cuda_scan.machine(), "cases": cases})


def exports(place: Place) -> None:
    """Export the reference model and networks at their published size."""
    gpu_networks.export_all(place.work, place.save)


def networks(place: Place) -> None:
    """Run a tile of each in ONNX Runtime's CUDA provider, and in PyTorch on the GPU."""
    found: dict[str, Any] = {}
    for name, package in gpu_networks.exported(place.work):
        found[name] = gpu_networks.measure(name, package)
        place.save(found)


def predictions(place: Place) -> None:
    """Segment whole scans on the GPU and on the processor."""
    found: dict[str, Any] = {}
    for name, package in gpu_networks.exported(place.work, gpu_networks.PREDICTED):
        found[name] = gpu_networks.predict(package, place.scans if name == "demo" else None)
        place.save(found)


def tensorrt(place: Place) -> None:
    """Build engines, and run a tile of each."""
    from segmaformer.runtime.backends.tensorrt.library import what_is_missing

    missing = what_is_missing()
    if missing is not None:
        raise SkipStepError(missing)
    found: dict[str, Any] = {}
    for name, package in gpu_networks.exported(place.work, gpu_networks.PREDICTED):
        found[name] = gpu_networks.build_engines(package)
        place.save(found)


STEPS: dict[str, Callable[[Place], None]] = {
    step.__name__: step
    for step in (
        *(exports, device, tests, labels, scan, networks, predictions),
        *(memcheck, racecheck, tensorrt, other_tests),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("found", type=Path)
    options = parser.parse_args()
    os.environ["SGMF_CACHE"] = str(options.work / "cache")
    options.work.mkdir(parents=True, exist_ok=True)

    def save(found: dict[str, Any]) -> None:
        partial = options.found.with_suffix(".part")
        partial.write_text(json.dumps(found))
        partial.replace(options.found)

    try:
        STEPS[options.step](Place(options.work, options.scans, save))
    except SkipStepError as reason:
        print(reason)
        sys.exit(SKIPPED)


if __name__ == "__main__":
    main()
