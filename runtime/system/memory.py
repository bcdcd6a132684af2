"""Memory available to a prediction, and memory used by this process."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

from segmaformer.runtime.system.control_groups import available_to_control_groups

MIB = 1024 * 1024
MOST_BUDGET_MIB = (2**63 - 1) // MIB
"""Largest budget in MiB; in bytes, more is no signed 64-bit integer."""
DEFAULT_SHARE = 0.5
"""Share of the available memory that a prediction uses by default."""

_default_limit: int | None = None


def budget_bytes(mib: int | None) -> int:
    """Convert a memory budget from MiB to bytes; None is :func:`default_budget_bytes`.

    Raises
    ------
    ValueError
        `mib` is below 1, or more than a signed 64-bit integer counts.
    """
    if mib is None:
        return default_budget_bytes()
    if not 1 <= mib <= MOST_BUDGET_MIB:
        raise ValueError(
            f"the memory budget is {mib} MiB; expected 1 to {MOST_BUDGET_MIB}, or None for half "
            "of the free memory"
        )
    return mib * MIB


def default_budget_bytes() -> int:
    """Return half of :func:`available_bytes`, or what :func:`limit_default` set if that is less."""
    return min(int(DEFAULT_SHARE * available_bytes()), _default_limit or sys.maxsize)


def limit_default(limit_bytes: int | None) -> None:
    """Limit the default of this process, which is one of several that share a budget; or do not."""
    global _default_limit
    _default_limit = limit_bytes


def available_bytes() -> int:
    """Return the bytes available now to the machine, the control groups and this process."""
    limits = _available_to_machine(), available_to_control_groups(), _available_to_process()
    return int(min(limits))


def peak_mib() -> float | None:
    """Return the largest resident size of this process in MiB; None if the system does not tell.

    getrusage's figure would begin with the size of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def restart_peak() -> None:
    """Restart :func:`peak_mib` at the current resident size, if the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _available_to_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    fields = dict(line.split(":", 1) for line in lines)
    return float(fields["MemAvailable"].split()[0]) * 1024


def _available_to_process() -> float:
    """Return the rest of an address space that a shell or a scheduler limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return float(limit)
    return max(0.0, float(limit - pages * os.sysconf("SC_PAGE_SIZE")))
