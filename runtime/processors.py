"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CPU_TOPOLOGY = Path("/sys/devices/system/cpu")


def available_processors() -> int:
    """Cores that this process may run on, capped by its control group's quota.

    Two threads of one core share its arithmetic units, which a network keeps busy alone; so
    siblings count once where Linux tells them apart.
    """
    return max(1, min(_cores(), _control_group_limit()))


def _cores() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    return len({_siblings(processor) for processor in processors})


def _siblings(processor: int) -> str:
    """What the threads of one core have in common; the processor itself where unknown."""
    name = CPU_TOPOLOGY / f"cpu{processor}" / "topology" / "thread_siblings_list"
    try:
        return name.read_text(encoding="ascii").strip() or str(processor)
    except (OSError, ValueError):
        return str(processor)


def _control_group_limit() -> int:
    unlimited = os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return unlimited if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return unlimited
