"""Segmentation of a batch: in this process, or in as many as scans and memory allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.host import Host
from segmaformer.cli.cohort.progress_line import ProgressLine
from segmaformer.cli.cohort.worker import Ready, Task
from segmaformer.cli.console import progress_bar, say
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.cli.segment_case import all_settings, remove_leftovers, result_of, segment_cases
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.system.memory import default_budget_bytes

SCANS_A_WORKER = 4
"""Fewest scans for each process: with fewer, the last ones would leave processors without work."""
FEWEST_FOR_WORKERS = 2 * SCANS_A_WORKER
"""Fewest scans that are shared by processes by default."""
MOST_WORKERS = 1024

Results = Generator[tuple[Case, dict[str, Any]], None, None]


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
    host: Host,
    options: PredictorOptions,
    workers: int | None,
    divide: Callable[[Ready], Sequence[Case]],
    *,
    names: bool,
) -> Results:
    """Segment scans in worker processes.

    Parameters
    ----------
    host
        Place where they run.
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

    processors, budget = host.processors, default_budget_bytes()
    task = _task(options, workers or 1, processors, budget, names)
    with Pool(host, task, workers or 1) as pool:
        ready = pool.wait_until_ready()
        left = [*divide(ready)]
        remove_leftovers(left)
        line = ProgressLine(len(left))
        on_device = _is_on_device(ready)
        most = host.gpus if on_device else processors
        measured = 0 if workers is not None or worker_count(len(left), most) == 1 else 1
        yield from line.following(pool.segment(left[: measured or None]))
        del left[: measured or None]
        fitting = host.fitting(pool.peak_mib) if pool.peak_mib else None
        chosen = worker_count(len(left), most, fitting)
        if chosen == 1:
            yield from line.following(pool.segment(left))
            return
    say(f"{chosen} processes of {max(1, processors // chosen)} thread(s)")
    task = _task(options.naming(_networks(ready)), chosen, processors, budget, names)
    with Pool(host, dataclasses.replace(task, may_use_gpu=on_device), chosen) as pool:
        yield from line.following(pool.segment(left))


def worker_count(scans: int, most: int, fitting: int | None = None) -> int:
    """Return the number of workers for a batch.

    It is that of the processors or GPUs, `most`, as far as there are `SCANS_A_WORKER` scans for
    each worker and the free memory holds as much for each as the first scan took, `fitting`: a
    process with one thread wastes no time on waiting for others. None leaves memory out of account.
    """
    return max(1, min(most, scans // SCANS_A_WORKER, most if fitting is None else fitting))


def _is_on_device(ready: Ready) -> bool:
    """Tell if a GPU runs the network: one process keeps it busy, and each would hold its memory."""
    return any(network["device"] != "cpu" for network in _networks(ready))


def _networks(ready: Ready) -> Sequence[Mapping[str, str]]:
    networks: Sequence[Mapping[str, str]] = ready.settings[None]["networks"]
    return networks


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
