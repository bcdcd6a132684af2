"""Batches of the command in a process of its own, and the processes that it starts."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from support.packages.samples import head_like, write_scan


def write_scans(folder: Path, count: int) -> Path:
    """Write scans of different sizes into a new folder, and return it."""
    for index in range(count):
        write_scan(folder / f"{index:02}.nii.gz", head_like((30 + index, 24, 28)))
    return folder


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the command, which SIGINT ends."""
    code = "from segmaformer.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def descendants(pid: int) -> list[int]:
    """Find the processes that come from one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        direct = [int(each) for each in children.read_text().split()]
    except OSError:
        return []
    return [found for each in direct for found in (each, *descendants(each))]
