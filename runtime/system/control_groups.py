"""Memory that the control groups of this process leave it, in version 1 and 2 of Linux's interface.

A process lies in a group, which lies in others; each may have a limit, and the tightest counts.
Page cache is no use of memory that stands in the way: the kernel drops it when memory is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 2**60
"""Version 1 has a number near 2**63 in place of no limit."""


@dataclass(frozen=True)
class _Interface:
    """Names of one version's files, and of its statistics of memory that can be dropped."""

    limits: tuple[str, ...]
    used: str
    droppable: tuple[str, ...]


_VERSION_1 = _Interface(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
_VERSION_2 = _Interface(
    ("memory.max", "memory.high"),
    "memory.current",
    ("active_file", "inactive_file", "slab_reclaimable"),
)


def available_to_control_groups(root: Path = Path("/")) -> float:
    """Return the bytes that the groups of this process leave; infinity without a limit.

    Parameters
    ----------
    root
        Folder that holds the kernel's ``proc`` and ``sys``.
    """
    left = (_left_in(folder, interface) for folder, interface in _groups(root))
    return min(left, default=math.inf)


def _groups(root: Path) -> Iterator[tuple[Path, _Interface]]:
    """List the groups of this process, from each version's own one to the outermost in sight."""
    places = {
        1 if controllers else 2: Path(place)
        for controllers, place in _memberships(root)
        if not controllers or "memory" in controllers.split(",")
    }
    for version, mounted_group, mount in _mounts(root):
        place = places.get(version)
        if place is None:
            continue
        # In a container the mount may show a group that the process' own one lies in, or is.
        inside = place.relative_to(mounted_group) if place.is_relative_to(mounted_group) else Path()
        folder = root / mount.relative_to("/")
        for group in (inside, *inside.parents):
            yield folder / group, _VERSION_1 if version == 1 else _VERSION_2


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """List controllers and group of ``/proc/self/cgroup``; version 2 names no controllers."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        yield controllers, place


def _mounts(root: Path) -> Iterator[tuple[int, Path, Path]]:
    """List version, group and folder of the mounts through which limits of memory can be seen."""
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, described = line.partition(" - ")
        group, mount = fields.split()[3:5]
        kind, _, options = described.split()[:3]
        if kind == "cgroup2":
            yield 2, Path(group), Path(mount)
        elif kind == "cgroup" and "memory" in options.split(","):
            yield 1, Path(group), Path(mount)


def _left_in(group: Path, interface: _Interface) -> float:
    limit = min(_number(group / name) for name in interface.limits)
    used = _number(group / interface.used)
    if limit >= _NO_LIMIT or math.isinf(used):
        return math.inf
    statistics = dict(line.split()[:2] for line in _lines(group / "memory.stat"))
    droppable = sum(int(statistics.get(name, 0)) for name in interface.droppable)
    return max(0.0, limit - max(0.0, used - droppable))


def _number(path: Path) -> float:
    """Return the number in a file; infinity where there is no file, or it says ``max``."""
    text = next(iter(_lines(path)), "max")
    return math.inf if text == "max" else float(text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
