"""The processors of this run, and the one of each worker of ``pytest -n``."""

from __future__ import annotations

import os

PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""All of them, as they were when the run began; empty where the system does not tell."""


def keep_to_one() -> None:
    """Limit thread pools in a worker to one thread, so that none waits for another worker's."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if PROCESSORS and worker:
        own = PROCESSORS[int(worker.removeprefix("gw")) % len(PROCESSORS)]
        os.sched_setaffinity(0, [own])
