"""How much memory a prediction may take, and how much this process took."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MIB = 1024 * 1024
DEFAULT_SHARE = 0.5
"""Part of the available memory that a prediction takes unless told otherwise."""


def default_budget_bytes() -> int:
    """Half of the memory that is available now, to this process' control group as well."""
    return int(DEFAULT_SHARE * min(_available_to_machine(), _available_to_control_group()))


def peak_mib() -> float | None:
    """Largest resident size of this process, MiB; None where the system does not tell.

    Not getrusage's figure, which begins with the size of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def restart_peak() -> None:
    """Let :func:`peak_mib` begin with what is resident now, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _available_to_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    fields = dict(line.split(":", 1) for line in lines)
    return float(fields["MemAvailable"].split()[0]) * 1024


def _available_to_control_group() -> float:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else max(0.0, float(limit) - float(used))
