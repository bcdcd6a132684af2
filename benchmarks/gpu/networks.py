"""Networks of `steps.py`: exported, one tile of each on the GPU, and whole scans."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import make_network, write_checkpoint
from gpu.cuda_scan import device_clock

from segmaformer.cli.commands.demo import bundled_checkpoint
from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.backends.session import Device, NetworkKind
from segmaformer.runtime.benchmark import Candidate, benchmark
from segmaformer.runtime.errors import SgmfError
from segmaformer.runtime.tile_check import TileCheck

DEMO = "demo"
NETWORKS = ("segmamba", DEMO, "segmaformer", "umamba-bot", "nnunet-plain", "segformer3d")
PREDICTED = (DEMO, "segmaformer", "umamba-bot")
WITH_FP16 = (DEMO, "segmaformer")  # random weights of the others do not pass the gates of float16
AT_ONCE = 4  # exports beside each other, each on its share of the processors
ROUNDS = 5
PATIENCE_S = 240.0
ENDED = "exports.ended"


def export_all(work: Path, save: Callable[[dict[str, Any]], None]) -> None:
    """Export the networks into `work`, several at once; a log takes the place of one that fails."""
    processors = sorted(os.sched_getaffinity(0))
    share = max(1, len(processors) // AT_ONCE)
    places = [processors[i * share : (i + 1) * share] or processors for i in range(AT_ONCE)]

    def export(name: str) -> tuple[str, dict[str, Any]]:
        place = places.pop()
        start = time.perf_counter()
        exit_code = _export(name, work, place)
        places.append(place)
        return name, {"exit_code": exit_code, "seconds": time.perf_counter() - start}

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found: dict[str, Any] = {}
            for future in as_completed([pool.submit(export, name) for name in NETWORKS]):
                found |= [future.result()]
                save(found)
    finally:
        (work / ENDED).touch()


def _export(name: str, work: Path, processors: Sequence[int]) -> int:
    target = work / f"{name}.sgmf"
    if target.exists():
        return 0
    code = "import os, sys; os.sched_setaffinity(0, map(int, sys.argv.pop(1).split(',')));"
    code += "from gpu import networks; sys.exit(networks.export_one(*sys.argv[1:]))"
    with (work / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-c", code, ",".join(map(str, processors)), name, str(work)]
        here = os.pathsep.join(
            filter(None, [str(Path(__file__).parents[1]), os.getenv("PYTHONPATH")])
        )
        exit_code = subprocess.run(
            command, stdout=log, stderr=log, cwd=work, env={**os.environ, "PYTHONPATH": here}
        ).returncode
    if exit_code:
        (work / f"{name}.log").rename(work / f"{name}.failed")
    return exit_code


def export_one(name: str, work: str) -> int:
    """Write a checkpoint, and export it by the command; return its exit code."""
    target = Path(work) / f"{name}.sgmf"
    command = [sys.executable, "-m", "segmaformer", "export", "-o", str(target)]
    command += ["--fp16"] * (name in WITH_FP16)
    if name == DEMO:
        with bundled_checkpoint() as checkpoint:
            return subprocess.run([*command, str(checkpoint)], cwd=work).returncode
    checkpoint = write_checkpoint(name, Path(work))
    exit_code = subprocess.run([*command, str(checkpoint)], cwd=work).returncode
    checkpoint.unlink()
    return exit_code


def exported(work: Path, names: Sequence[str] = NETWORKS) -> Iterator[tuple[str, Path]]:
    """Yield names and packages as their exports end, without those that fail."""
    waiting = list(names)
    deadline = time.monotonic() + PATIENCE_S
    while waiting and time.monotonic() < deadline:
        ended = (work / ENDED).exists()
        for name in list(waiting):
            if (work / f"{name}.failed").exists():
                waiting.remove(name)
            elif (package := work / f"{name}.sgmf").exists():
                waiting.remove(name)
                yield name, package
        if ended:
            return
        time.sleep(0.2)


def measure(name: str, package: Path) -> dict[str, Any]:
    """Run a tile of a package in the CUDA provider and of its network in PyTorch on the GPU.

    Both take the tile from memory of the processor and give the logits back there.
    """
    variants = Package.open(package).manifest.variants
    candidates = [Candidate("onnxruntime", "cuda", variant) for variant in variants]
    found: dict[str, Any] = {"runs": benchmark(package, candidates, rounds=ROUNDS)}
    if name != DEMO:
        found["pytorch"] = _pytorch(name, package)
    return found


class _EagerSession:
    """A network in PyTorch on the GPU, in full float32."""

    tiles_at_once = 1
    overlap = False
    coarse = None
    resident = None
    identity = None
    kind = NetworkKind("pytorch", "cuda", "fp32")

    def __init__(self, name: str):
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._model = make_network(name).cuda()
        self._torch = torch
        self.description = f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}"

    def run(self, tiles: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            found: np.ndarray = self._model(self._torch.from_numpy(tiles).cuda()).cpu().numpy()
        return found

    def milliseconds(self, tiles: np.ndarray) -> float:
        """Return what the device takes for tiles that are there already."""
        there = self._torch.from_numpy(tiles).cuda()
        with self._torch.inference_mode():
            clock = device_clock()
            return sorted(clock(lambda: self._model(there)) for _ in range(ROUNDS))[ROUNDS // 2]


def _pytorch(name: str, package: Path) -> dict[str, Any]:
    try:
        check, session = TileCheck(Package.open(package)), _EagerSession(name)
        found = check.run(session, "fp32")
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            session.run(check.tile)
            seconds.append(time.perf_counter() - start)
        found["seconds_per_tile"] = sorted(seconds)[ROUNDS // 2]
        return {**found, "device_milliseconds": session.milliseconds(check.tile)}
    except (SgmfError, RuntimeError) as error:  # such as too little memory
        return {"reason": str(error)[:2000]}


def predict(package: Path, scans: Path | None) -> dict[str, Any]:
    """Segment scans, or a phantom, in the CUDA provider and on the processor."""
    opened = Package.open(package)
    given: dict[str, Any] = {"phantom": phantom(opened)}
    if scans is not None:
        given = {path.name: path for path in sorted(scans.iterdir())}
    predictors: dict[str, Predictor] = {}
    found: dict[str, Any] = {}
    runs: list[tuple[Device, str]] = [("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "fp16")]
    for device, variant in runs:
        options = BackendOptions(device=device)
        if variant in opened.manifest.variants:
            try:
                predictors[f"{device} {variant}"] = Predictor(
                    opened, "onnxruntime", variant=variant, options=options
                )
            except SgmfError as error:
                found[f"{device} {variant}"] = {"reason": str(error)}
    for name, scan in given.items():
        found[name] = _one_scan(predictors, scan if isinstance(scan, Volume) else str(scan))
    return found


def _one_scan(predictors: dict[str, Predictor], scan: Volume | str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    expected: np.ndarray | None = None
    for name, predictor in predictors.items():
        if name.startswith("cuda"):
            predictor.predict(scan)  # warms up
        start = time.perf_counter()
        labels = predictor.predict(scan).labels
        seconds = time.perf_counter() - start
        expected = labels if expected is None else expected
        different = int(np.count_nonzero(labels != expected))
        found[name] = {"seconds": seconds, "different": different, "voxels": labels.size}
        found[name]["labels"] = len(np.unique(labels))
    return found


def phantom(package: Package) -> Volume:
    """Make a smooth volume that takes two tiles along each axis."""
    manifest = package.manifest
    shape = tuple(5 * extent // 4 for extent in manifest.tiling.tile)[::-1]
    channels = len(manifest.preprocessing.channels)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    noise = np.random.default_rng(0).normal(scale=0.05, size=(channels, *shape))
    waves = [
        np.cos((k + 2) * axes[0]) * np.cos(3 * axes[1]) - axes[2] ** 2 for k in range(channels)
    ]
    spacing = manifest.preprocessing.spacing or (1.0, 1.0, 1.0)
    affine = np.diag([*spacing[::-1], 1.0])
    return Volume((100 + 80 * (np.stack(waves) + noise)).astype(np.float32), affine)


def build_engines(package: Path) -> dict[str, Any]:
    """Build TensorRT engines of a package, and run a tile of each."""
    found: dict[str, Any] = {}
    for variant in Package.open(package).manifest.variants:
        command = [sys.executable, "-m", "segmaformer", "build", str(package), "--variant", variant]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, cwd=package.parent)
        row: dict[str, Any] = {"build_seconds": time.perf_counter() - start, "said": run.stderr}
        if run.returncode == 0:
            candidate = Candidate("tensorrt", "cuda", variant)
            row |= benchmark(package, [candidate], rounds=ROUNDS)[0]
        found[variant] = row
    return found
