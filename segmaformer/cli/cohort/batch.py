"""Segmentation of a batch: in this process, or in as many as scans and memory allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.progress_line import ProgressLine
from segmaformer.cli.cohort.worker import Ready, Task
from segmaformer.cli.console import progress_bar, say
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.cli.segment_case import all_settings, remove_leftovers, result_of, segment_cases
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.memory import MIB, available_bytes, default_budget_bytes

SCANS_A_WORKER = 4
"""Fewest scans for each process: with fewer, the last ones would leave processors without work."""
FEWEST_FOR_WORKERS = 2 * SCANS_A_WORKER
"""Fewest scans that are shared by processes by default."""
MOST_WORKERS = 1024
_MEMORY_SHARE = 0.8

Results = Iterator[tuple[Case, dict[str, Any]]]


def segment_here(
    options: PredictorOptions,
    packages: Sequence[Package],
    divide: Callable[[Ready], Sequence[Case]],
    *,
    names: bool,
) -> Results:
    """Segment scans in this process; parameters and results are as below."""
    predictor = options.open(packages, say)
    left = divide(Ready(predictor.backend, all_settings(predictor)))
    for case, outcome in segment_cases(predictor, left, progress_bar, say, names=names):
        yield case, result_of(case, outcome)


def segment_in_workers(
    options: PredictorOptions,
    workers: int | None,
    divide: Callable[[Ready], Sequence[Case]],
    *,
    names: bool,
) -> Results:
    """Segment scans in worker processes.

    Parameters
    ----------
    options
        Options of the predictor.
    workers
        Number of processes, among which the threads are divided. None begins with one that has all
        threads, and goes on with as many as :func:`worker_count` says after the first scan.
    divide
        Called with what a process says of its predictor; returns the scans to segment.
    names
        Show the scans' file names in previews and reports.

    Yields
    ------
    case, result
        As :meth:`Pool.segment` does.
    """
    from segmaformer.cli.cohort.pool import Pool  # which a single scan does not need

    processors = options.threads or available_processors()
    budget = default_budget_bytes()
    with Pool(_task(options, workers or 1, processors, budget, names), workers or 1) as pool:
        ready = pool.wait_until_ready()
        left = [*divide(ready)]
        remove_leftovers(left)
        line = ProgressLine(len(left))
        alone = _is_on_device(ready) or worker_count(len(left), processors) == 1
        measured = 0 if workers is not None or alone else 1
        yield from line.following(pool.segment(left[: measured or None]))
        del left[: measured or None]
        chosen = worker_count(len(left), processors, pool.peak_mib)
        if chosen == 1:
            yield from line.following(pool.segment(left))
            return
    say(f"{chosen} processes of {max(1, processors // chosen)} thread(s)")
    with Pool(_task(options, chosen, processors, budget, names), chosen) as pool:
        yield from line.following(pool.segment(left))


def worker_count(scans: int, processors: int, peak_mib: float = 0) -> int:
    """Return the number of processes for a batch.

    It is that of the processors, as far as there are `SCANS_A_WORKER` scans for each process and
    the free memory holds as much for each as the first scan took: a process with one thread wastes
    no time on waiting for others. 0 MiB leaves memory out of account.
    """
    fitting = processors
    if peak_mib:
        fitting = int(_MEMORY_SHARE * available_bytes() / (peak_mib * MIB))
    return max(1, min(processors, scans // SCANS_A_WORKER, fitting))


def _is_on_device(ready: Ready) -> bool:
    """Tell if a GPU runs the network: one process keeps it busy, and each would hold its memory."""
    networks = ready.settings[None]["networks"]
    return any(network["device"] != "cpu" for network in networks)


def _task(
    options: PredictorOptions, workers: int, processors: int, budget_bytes: int, names: bool
) -> Task:
    """Divide threads and memory among processes."""
    memory = options.memory_budget_mib
    share = dataclasses.replace(
        options,
        threads=max(1, processors // workers) if workers > 1 else options.threads,
        memory_budget_mib=None if memory is None else max(1, memory // workers),
    )
    return Task(share, names, budget_bytes // workers if workers > 1 else None)
