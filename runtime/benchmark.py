"""Timing of a package's variants on this machine, each backend in a process of its own.

Taking turns spreads the machine's other load over all of them, and a process of its own gives each
its own peak memory. Variants whose result differs from PyTorch's are not timed.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.runtime.backends import BackendOptions, Device, Session, open_session
from segmaformer.runtime.backends.self_test import FAILURES
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.progress import Progress
from segmaformer.runtime.system.memory import peak_mib, restart_peak
from segmaformer.runtime.system.sending import send
from segmaformer.runtime.tile_check import TileCheck

TURN_S = 0.25


@dataclass(frozen=True)
class Candidate:
    """Backend, variant and device to time.

    Attributes
    ----------
    backend, variant
        See :func:`segmaformer.runtime.backends.open_session`; not ``auto``.
    device
        Device that the backend runs on; None for its default.
    """

    backend: str
    device: Device | None
    variant: str


def benchmark(
    folder: Path,
    candidates: Sequence[Candidate],
    *,
    rounds: int = 7,
    threads: int | None = None,
    progress: Progress = lambda stage, done, count: None,
) -> list[dict[str, Any]]:
    """Measure each candidate on the phantom tile.

    All are opened before any is measured, so memory must hold them together. A candidate runs as
    many tiles as its backend takes at once; each turn's first run warms it up and is not counted.

    Parameters
    ----------
    folder
        The package's folder.
    candidates
        Candidates to measure.
    rounds
        Number of turns of each. A turn lasts a quarter of a second, and at least two runs.
    threads
        Number of threads for one tile; None uses every processor this process may use.
    progress
        Called with the stage (``opening``, ``measuring``), the steps done and their number.

    Returns
    -------
    list of dict
        Documents for JSON, in the order of `candidates`, with their fields. Candidates that could
        not run, or failed, have ``reason``. The others have ``description``, ``tiles_at_once`` and
        the figures of :meth:`TileCheck.run`; and, unless they fall short, ``seconds_per_tile``
        (median of the turns), ``fastest`` and ``slowest`` (turns, in seconds for one tile),
        ``tiles_per_second`` and ``peak_mib`` (largest resident size of the process while it was
        measured; None if the system does not tell).
    """
    processes: list[_Process] = []
    try:
        for index, candidate in enumerate(candidates):
            progress("opening", index, len(candidates))
            processes.append(_Process(folder, candidate, threads))
        progress("opening", len(candidates), len(candidates))
        for turn in range(rounds):
            progress("measuring", turn, rounds)
            for process in processes:
                process.take_turn()
        progress("measuring", rounds, rounds)
        return [process.result() for process in processes]
    finally:
        for process in processes:
            process.end()


class _Process:
    """A candidate in a process of its own; one that has failed is not asked again."""

    def __init__(self, folder: Path, candidate: Candidate, threads: int | None):
        context = multiprocessing.get_context("spawn")
        self._link, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, folder, candidate, threads), daemon=True
        )
        self._process.start()
        there.close()
        self._facts = dataclasses.asdict(candidate)
        self._seconds: list[float] = []
        self._facts |= self._answer() or {}
        if not self._measurable:
            self.end()

    def take_turn(self) -> None:
        """Measure one turn."""
        if self._measurable:
            self._seconds += filter(None, [self._answer("turn")])

    def result(self) -> dict[str, Any]:
        """Return the candidate's document, see :func:`benchmark`."""
        if not self._measurable:
            return self._facts
        median = statistics.median(self._seconds)
        return {
            **self._facts,
            "seconds_per_tile": median,
            "fastest": min(self._seconds),
            "slowest": max(self._seconds),
            "tiles_per_second": 1 / median,
            "peak_mib": self._answer("peak"),
        }

    def end(self) -> None:
        """End the process, even while it is working."""
        self._link.close()
        self._process.terminate()
        self._process.join()

    @property
    def _measurable(self) -> bool:
        return "reason" not in self._facts and not self._facts["shortcomings"]

    def _answer(self, question: str | None = None) -> Any:
        """Return the next answer; None for a failure, which is then among the facts."""
        try:
            if question is not None:
                send(self._link, question)
            answer = self._link.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            answer = _Failure(f"its process ended with code {code}; -9 means too little memory")
        if isinstance(answer, _Failure):
            self._facts["reason"] = answer.text
            return None
        return answer


@dataclass(frozen=True)
class _Failure:
    text: str


def _serve(link: Connection, folder: Path, candidate: Candidate, threads: int | None) -> None:
    os.dup2(2, 1)  # keep stdout for results, whatever a library prints
    with _failures_sent(link):
        package = Package.open(folder)
        session = open_session(
            package,
            backend=candidate.backend,
            variant=candidate.variant,
            options=BackendOptions(threads=threads, device=candidate.device),
        )
        check = TileCheck(package)
        found = check.run(session, candidate.variant)
        description = found.pop("backend")
        at_once = {"tiles_at_once": session.tiles_at_once}
        send(link, {"description": description, **found, **at_once})
        tiles = np.repeat(check.tile, session.tiles_at_once, axis=0)
        restart_peak()
        for what in _asked(link):
            send(link, _turn(session, tiles) if what == "turn" else peak_mib())


@contextmanager
def _failures_sent(link: Connection) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        with suppress(BrokenPipeError):  # the parent process was killed
            send(link, _Failure(str(error)))


def _asked(link: Connection) -> Iterator[str]:
    while True:
        try:
            yield link.recv()
        except EOFError:
            return


def _turn(session: Session, tiles: np.ndarray) -> float:
    """Return the seconds for one tile: the median of a turn's runs but the first."""
    session.run(tiles)  # refills the caches, which the candidate before used
    seconds: list[float] = []
    while not seconds or sum(seconds) < TURN_S:
        start = time.perf_counter()
        session.run(tiles)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / len(tiles)
