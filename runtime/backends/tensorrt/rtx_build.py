"""Building of TensorRT-RTX engines ahead of time: for a target, on any machine, without a GPU.

TensorRT-RTX takes no plugins: its parser ends the process at an unknown operator. So this only
takes networks in standard operators, as :func:`segmaformer.export.plain_graph.plain_graph` makes
them, and builds in a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from segmaformer.runtime.errors import BackendError, MissingExtraError
from segmaformer.runtime.progress import Report, StepProgress

NAME = "tensorrt-rtx"
MODULE = "tensorrt_rtx"
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120")
"""Compute capabilities that engines can be built for: Turing to Blackwell."""

NETWORK_FILE, ENGINE_FILE, LOG_FILE = "network.onnx", "engine", "log.txt"
_LAST_WORDS = 400
_INSTALL = "TensorRT-RTX is not installed; run: pip install 'segmaformer[rtx]'"


@dataclass(frozen=True)
class RtxEngine:
    """A new engine and the costs of its building.

    Attributes
    ----------
    content
        Serialised engine.
    builder_version
        Version of TensorRT-RTX.
    target, batch
        Target and batch of the engine; it takes 1 to `batch` tiles and is best at `batch`.
    seconds
        Duration of the build.
    build_peak_mib
        Largest resident size of the building process.
    """

    content: bytes
    builder_version: str
    target: str
    batch: int
    seconds: float
    build_peak_mib: float


def build_rtx_engine(
    network: bytes,
    target: str,
    *,
    batch: int = 1,
    progress: StepProgress = lambda done, steps: None,
    keep_log: Report = lambda text: None,
) -> RtxEngine:
    """Build an engine in a child process.

    Parameters
    ----------
    network
        ONNX file in standard operators without loops, whose one input is (batch, C, D, H, W).
    target
        One of :data:`TARGETS`.
    batch
        Largest number of tiles at once. The network's own batch is free or this one.
    progress
        Called as the builder proceeds.
    keep_log
        Called with the builder's log, also after a failure.

    Raises
    ------
    ValueError
        There is no such target, or `batch` is below 1.
    MissingExtraError
        TensorRT-RTX is not installed.
    BackendError
        The network cannot be parsed or built, or the builder's process ended.
    """
    _check(target, batch)
    with tempfile.TemporaryDirectory(prefix="sgmf-rtx-") as name:
        folder = Path(name)
        (folder / NETWORK_FILE).write_bytes(network)
        try:
            last = _run_child(folder, target, batch, progress)
        finally:
            with contextlib.suppress(FileNotFoundError):
                keep_log((folder / LOG_FILE).read_text(encoding="utf-8"))
        return RtxEngine(
            content=(folder / ENGINE_FILE).read_bytes(),
            builder_version=last["version"],
            target=target,
            batch=batch,
            seconds=last["seconds"],
            build_peak_mib=last["peak_mib"],
        )


def import_tensorrt_rtx() -> ModuleType:
    """Import TensorRT-RTX.

    Raises
    ------
    MissingExtraError
        TensorRT-RTX is not installed, or not for this machine.
    """
    try:
        return importlib.import_module(MODULE)
    except ImportError as error:
        raise MissingExtraError(f"{_INSTALL} ({error})") from error


def what_is_missing() -> str | None:
    """Return why nothing can be built on this machine; None if it can."""
    return _INSTALL if importlib.util.find_spec(MODULE) is None else None


def _check(target: str, batch: int) -> None:
    if target not in TARGETS:
        raise ValueError(
            f"TensorRT-RTX has no target {target!r}; expected one of {', '.join(TARGETS)}"
        )
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1")
    if (missing := what_is_missing()) is not None:
        raise MissingExtraError(missing)


def _run_child(folder: Path, target: str, batch: int, progress: StepProgress) -> dict[str, Any]:
    """Build in `folder`; return the child's last message.

    The child works in `folder`, so that it imports nothing from the user's folder.
    """
    command = [sys.executable, "-m", f"{__package__}.rtx_child", target, str(batch)]
    last: dict[str, Any] = {}
    with (folder / "stderr.txt").open("w+b") as stderr:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
        try:
            for line in child.stdout or ():
                last = json.loads(line)
                if "done" in last:
                    progress(last["done"], last["steps"])
        finally:
            if sys.exc_info()[0] is not None:
                child.kill()
            child.wait()
        if "seconds" not in last:
            raise BackendError(_reason(last, child.returncode, stderr))
    return last


def _reason(last: dict[str, Any], returncode: int, stderr: IO[bytes]) -> str:
    if "error" in last:
        return str(last["error"])
    stderr.seek(0)
    said = stderr.read().decode(errors="replace").strip()[-_LAST_WORDS:]
    how = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"code {returncode}"
    return (
        f"the process that builds with TensorRT-RTX ended with {how}: "
        f"{said or 'it printed nothing'}. SIGKILL means too little memory; any other end, an "
        "operator or a size that it does not support"
    )
