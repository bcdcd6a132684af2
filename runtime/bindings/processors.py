"""Number of processors that this process may use."""

from __future__ import annotations

from pathlib import Path

from segmaformer.runtime.bindings.op_library import op_library

MOST_THREADS = 1024
"""Largest accepted number of threads, here and in libsgmf; more would exhaust the system."""


def available_processors(system_root: Path | None = None) -> int:
    """Count the cores that this process may run on, capped by its control group's quota.

    Two threads of one core share its arithmetic units, which a network keeps busy alone; so
    siblings count once if Linux tells them apart.

    Parameters
    ----------
    system_root
        Folder that holds the kernel's ``sys``; None is the root.

    Raises
    ------
    BackendError
        The installation has no op library.
    """
    count: int = op_library().sgmf_available_processors(
        None if system_root is None else str(system_root).encode()
    )
    return count
