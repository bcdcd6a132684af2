"""Comparison of candidates: each in a process of its own, all taking turns.

Taking turns spreads whatever else the machine does over all of them, and a process of its own
gives each its own peak memory. For Linux.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], np.ndarray]

_TURN_S = 0.25


@dataclass(frozen=True)
class Result:
    """Times and memory of one candidate.

    Attributes
    ----------
    median_ms, fastest_ms
        Over all turns, milliseconds.
    peak_mib
        Largest resident size of its process once its inputs stood ready, MiB.
    working_mib
        The part of it that the runs added, MiB.
    error
        Largest difference from the first candidate's result, relative to its largest value.
    """

    median_ms: float
    fastest_ms: float
    peak_mib: float
    working_mib: float
    error: float


def best_of(call: Callable[[], object], runs: int = 12) -> float:
    """Return the seconds of the fastest of several calls."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def in_process(target: Callable[..., Any], *arguments: Any) -> Any:
    """Call a picklable function in a process of its own, and return its result."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_answer, args=(target, arguments, there))
    process.start()
    there.close()
    result = here.recv()
    process.join()
    return result


def measured(target: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    """Call a picklable function as :func:`in_process`, and measure all of that process.

    Returns
    -------
    result, cost
        ``processor_seconds``, user and system, and ``peak_mib``, of the process from its start
        and of those that it started.
    """
    result: tuple[Any, dict[str, float]] = in_process(_with_cost, target, *arguments)
    return result


def _with_cost(target: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    result = target(*arguments)
    own, started = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(used.ru_utime + used.ru_stime for used in (own, started))
    peak_mib = max(memory_mib("VmHWM"), started.ru_maxrss / 1024)
    return result, {"processor_seconds": round(seconds, 2), "peak_mib": round(peak_mib)}


def _answer(target: Callable[..., Any], arguments: tuple[Any, ...], link: Connection) -> None:
    link.send(target(*arguments))


def take_turns(
    candidates: dict[str, tuple[Callable[..., Run], tuple[Any, ...]]], rounds: int
) -> dict[str, Result]:
    """Measure every candidate `rounds` times.

    Parameters
    ----------
    candidates
        For each name a picklable function and its arguments; called in the candidate's process,
        it makes the inputs ready and returns what is measured.
    rounds
        Turns of each candidate. A turn lasts a quarter of a second, two runs at least, and
        counts its fastest: the first finds the caches as the candidate before it left them.
    """
    context = multiprocessing.get_context("spawn")
    links: dict[str, Connection] = {}
    outputs: dict[str, np.ndarray] = {}
    for name, (prepare, arguments) in candidates.items():
        links[name], there = context.Pipe()
        process = context.Process(target=_serve, args=(prepare, arguments, there), daemon=True)
        process.start()
        there.close()
        outputs[name] = _receive(links[name])
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, link in links.items():
            link.send(True)
            seconds[name].append(link.recv())
    expected = next(iter(outputs.values()))
    results = {}
    for name, link in links.items():
        link.send(False)
        peak, ready = link.recv()
        results[name] = Result(
            median_ms=1e3 * statistics.median(seconds[name]),
            fastest_ms=1e3 * min(seconds[name]),
            peak_mib=peak,
            working_mib=peak - ready,
            error=float(np.abs(outputs[name] - expected).max() / np.abs(expected).max()),
        )
    return results


def _serve(prepare: Callable[..., Run], arguments: tuple[Any, ...], connection: Connection) -> None:
    run = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    ready = memory_mib("VmRSS")
    _send(run(), connection)
    while connection.recv():
        connection.send(_turn(run))
    connection.send((memory_mib("VmHWM"), ready))


def _send(output: np.ndarray, connection: Connection) -> None:
    """Hold inputs without pickling, which would count two copies as the candidate's memory."""
    connection.send((output.shape, output.dtype.str))
    connection.send_bytes(np.ascontiguousarray(output).data.cast("B"))


def _receive(connection: Connection) -> np.ndarray:
    shape, dtype = connection.recv()
    return np.frombuffer(connection.recv_bytes(), dtype).reshape(shape)


def _turn(run: Run) -> float:
    """Return the seconds of the fastest run."""
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < _TURN_S:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def memory_mib(field: str) -> float:
    """Read a line of /proc/self/status; getrusage would include the peak of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def report(results: dict[str, Result], baseline: str) -> dict[str, Any]:
    """Return results and the machine as plain data; ``speedup`` is over `baseline`."""
    slow = results[baseline].median_ms
    rows = {name: {**asdict(r), "speedup": slow / r.median_ms} for name, r in results.items()}
    return {"machine": machine(), "baseline": baseline, "results": rows}


def table(document: dict[str, Any]) -> str:
    """Write the document of :func:`report` as a Markdown table."""
    lines = [
        f"{document['machine']['processor']}, {document['machine']['threads']} threads",
        "",
        "| | median ms | fastest ms | speedup | peak MiB | working MiB | error |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in document["results"].items():
        lines.append(
            f"| {name} | {row['median_ms']:.2f} | {row['fastest_ms']:.2f} | {row['speedup']:.1f} "
            f"| {row['peak_mib']:.0f} | {row['working_mib']:.0f} | {row['error']:.1e} |"
        )
    return "\n".join(lines)


def available_threads() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """Describe processor, threads and versions."""
    packages = ("segmaformer", "numpy", "torch", "onnxruntime")
    return {
        "processor": _processor(),
        "threads": available_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
