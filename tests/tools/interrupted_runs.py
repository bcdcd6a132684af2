"""Signals at random moments during infer, export and calibrate, and check of the files left.

``python tests/tools/interrupted_runs.py [COUNT]`` sends 200, prints how the runs ended and
which took longest, and fails if any left something half-done.
"""

from __future__ import annotations

import collections
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
from support.networks.networks import save_tiny_checkpoint
from support.packages.samples import copy_package, head_like, write_scan

from segmaformer.runtime.package.reader import Package

COMMAND = [
    sys.executable,
    "-c",
    "import segmaformer.__main__ as command; command.answer_signals(); "
    "print('started', flush=True); command.start()",
]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESULTS = ("{}_seg.nii.gz", "{}_seg.run.json", "{}_seg.png", "{}_seg.json", "{}_seg.html")
CASES = 4
LIMIT_SECONDS = 3
"""Time within which a run ends after a signal, on a machine that does nothing else."""
STATE = ".tiny.sgmf.calibration.npz"
"""File from which an interrupted calibration continues."""


@dataclass(frozen=True)
class Inputs:
    """Arguments of the commands."""

    checkpoint: Path
    package: Path
    scans: Path


@dataclass(frozen=True)
class Job:
    """Command in a folder of its own, and check of that folder's state at any moment."""

    name: str
    arguments: Callable[[Inputs, Path], list[str]]
    faults: Callable[[Path], Iterator[str]]


@dataclass(frozen=True)
class Ending:
    """Outcome of a run after a signal."""

    code: int
    seconds: float
    faults: tuple[str, ...]


def infer(given: Inputs, folder: Path) -> list[str]:
    """Run infer on four scans with every optional result."""
    options = ["--preview", "--stats", "--report", str(folder / "out"), "--probabilities", "1"]
    (folder / "out").mkdir()
    target = ["-m", str(given.package), "-o", str(folder / "out")]
    return ["infer", str(given.scans), *target, "--backend", "onnxruntime", *options]


def infer_faults(folder: Path) -> Iterator[str]:
    """Check that each scan has all results or none."""
    out = folder / "out"
    for index in range(CASES):
        there = [(out / name.format(f"case{index}")).exists() for name in RESULTS]
        if any(there) and not all(there):
            yield f"case{index} has {sum(there)} of {len(there)} results"
    for path in out.glob("*.nii.gz"):
        nibabel.load(path).get_fdata()
    for path in out.glob("*.json"):
        json.loads(path.read_bytes())


def export(given: Inputs, folder: Path) -> list[str]:
    """Run over an existing package."""
    copy_package(given.package, folder)
    target = ["-o", str(folder / "tiny.sgmf"), "--overwrite"]
    return ["export", str(given.checkpoint), *target, "--fp16"]


def calibrate(given: Inputs, folder: Path) -> list[str]:
    """Make an existing package."""
    copy_package(given.package, folder)
    return ["calibrate", str(folder / "tiny.sgmf"), str(given.scans), "--least-dice", "0.8"]


def package_faults(folder: Path) -> Iterator[str]:
    """Check that the package is whole: its files are those of the manifest, with their hashes."""
    package = Package.open(folder / "tiny.sgmf")
    for name in package.manifest.files:
        package.read(name)
    if not {"fp32", "fp16"} <= package.manifest.variants.keys():
        yield "a variant is missing"


JOBS = (
    Job("infer", infer, infer_faults),
    Job("export", export, package_faults),
    Job("calibrate", calibrate, package_faults),
)


def make_inputs(folder: Path) -> Inputs:
    """Write a small network, its package and scans."""
    from segmaformer.checkpoint import load_checkpoint
    from segmaformer.export.pipeline import ExportOptions, export_package

    checkpoint = save_tiny_checkpoint(folder / "tiny.pth")
    options = ExportOptions(fp16=True)
    package = export_package(load_checkpoint(checkpoint), folder / "tiny.sgmf", options).path
    return Inputs(checkpoint, package, write_scans(folder / "scans"))


def write_scans(folder: Path) -> Path:
    """Write scans of several tiles."""
    for index in range(CASES):
        write_scan(folder / f"case{index}.nii.gz", head_like((60 + index, 64, 90), seed=index))
    return folder


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start the command as a shell does, even if SIGINT is ignored here.

    Before its first line Python itself answers signals: that moment is not the command's.
    """
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def interrupt(job: Job, given: Inputs, folder: Path, delay: float, number: int) -> Ending:
    """Send a signal after a delay, and check the files left."""
    process = start(job.arguments(given, folder), folder)
    time.sleep(delay)
    process.send_signal(number)
    begin = time.perf_counter()
    _, errors = process.communicate()
    seconds = time.perf_counter() - begin
    return Ending(process.returncode, seconds, tuple(_faults(job, folder, process, errors)))


def _faults(job: Job, folder: Path, process: subprocess.Popen[str], errors: str) -> Iterator[str]:
    if process.returncode not in (0, 1):
        yield f"exit code {process.returncode}"
    if process.returncode == 1 and not errors.endswith("sgmf: interrupted\n"):
        yield f"ended with {errors[-2000:]!r}"
    for word in ("Traceback", "Exception ignored", "Error"):
        if word in errors:
            yield f"printed {errors[-2000:]!r}"
    for path in folder.rglob(".*"):
        if path.name != STATE:
            yield f"{path} stays"
    yield from job.faults(folder)


def full_seconds(job: Job, given: Inputs) -> float:
    """Measure how long the command takes without a signal."""
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        process = start(job.arguments(given, Path(name)), Path(name))
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{job.name} failed by itself: {errors}")
        return time.perf_counter() - begin


def main(count: int, seed: int = 0) -> int:
    """Send `count` signals in all; returns an exit code."""
    choose = random.Random(seed)
    endings: dict[str, list[Ending]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        given = make_inputs(Path(name))
        durations = {job.name: full_seconds(job, given) for job in JOBS}
        for index in range(count):
            job = JOBS[index % len(JOBS)]
            delay = choose.uniform(0, durations[job.name])
            with tempfile.TemporaryDirectory(dir=name) as folder:
                ending = interrupt(job, given, Path(folder), delay, choose.choice(SIGNALS))
            endings[job.name].append(ending)
            for fault in ending.faults:
                print(f"{job.name} after {delay:.2f} s: {fault}", flush=True)
            if ending.code and ending.seconds > LIMIT_SECONDS:
                print(f"{job.name} after {delay:.2f} s: took {ending.seconds:.2f} s", flush=True)
            print(f"{index + 1} of {count}", end="\r", file=sys.stderr, flush=True)
    for job_name, found in endings.items():
        stopped = [each.seconds for each in found if each.code]
        print(
            f"{job_name}: {len(found)} signals over {durations[job_name]:.1f} s, "
            f"{len(stopped)} interrupted, {len(found) - len(stopped)} done already; "
            f"ended after {statistics.median(stopped or [0]):.2f} s (median), "
            f"{max(stopped, default=0):.2f} s (longest)"
        )
    faulty = sum(bool(each.faults) for found in endings.values() for each in found)
    print(f"{faulty} runs left something half-done")
    return int(faulty > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
