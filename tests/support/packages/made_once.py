"""Data that take long to make, shared by all workers of ``pytest -n``."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first worker to ask for it fills, while the others wait.

    Parameters
    ----------
    name
        Of the folder, one for each `make`.
    make
        Called with an empty folder, which is renamed afterwards.
    """
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # the folder of a worker lies in that of the run
    folder = run / f"shared-{name}"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(dir=run))
            make(unfinished)
            unfinished.rename(folder)
    return folder
