"""How many processors this process may use."""

from __future__ import annotations

from pathlib import Path

from segmaformer.runtime.bindings.op_library import op_library

MOST_THREADS = 1024
"""That anybody may ask for, here and in libsgmf; more would only exhaust the system."""


def available_processors(system_root: Path | None = None) -> int:
    """Cores that this process may run on, capped by its control group's quota.

    Two threads of one core share its arithmetic units, which a network keeps busy alone; so
    siblings count once where Linux tells them apart.

    Parameters
    ----------
    system_root
        Folder that holds the kernel's ``sys``; None is the root.

    Raises
    ------
    BackendError
        The installation carries no op library.
    """
    count: int = op_library().sgmf_available_processors(
        None if system_root is None else str(system_root).encode()
    )
    return count
