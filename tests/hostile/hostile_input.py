"""Inputs that are damaged, lie or are merely odd, each with its only right outcome.

A verdict is the exit code that the command ends with:

* ``TAKEN`` (0): odd, but what it means is beyond doubt, so it is used.
* ``USAGE`` (2): there is no such thing to use.
* ``REFUSED`` (3): a scan, checkpoint or document that cannot be used, or that memory cannot hold.
* ``UNVERIFIED`` (4): a package that is not what was exported.

Anything else is a defect: an untyped error or a traceback, and a refusal without a text. Each
input is also bound in memory: however much it claims, reading it takes no more than `most_bytes`.
The processes that read the inputs have a limited address space and a time limit, so that what
breaks the bounds ends there.

Most inputs go through the command ``sgmf`` as well. It ends with the same code, says why in a line,
shows a terminal nothing but printable characters and leaves nothing but its results.

A kind of input is a module that yields :class:`HostileInput`; ``KINDS`` in ``run_kind`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAKEN, USAGE, REFUSED, UNVERIFIED = 0, 2, 3, 4
MOST_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class HostileInput:
    """One input.

    Attributes
    ----------
    name
        In words; unique among those of its kind.
    write
        Writes it into an empty folder and returns the path to read.
    read
        What a command does with it first, and that a taken input has the right values; None
        where the command alone is asked.
    verdict
        The exit code that is right.
    most_bytes
        That Python and NumPy may hold at once meanwhile.
    command
        Arguments of ``sgmf``, in which ``{path}`` stands for what was written, ``{out}`` for
        an empty folder and ``{package}`` for a small package; none where it is not asked.
    left
        Names in the folder ``{out}`` at the end.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], Any] | None
    verdict: int
    most_bytes: int = MOST_BYTES
    command: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def read_as_scan(path: Path) -> None:
    """Read a scan and check it; both must come to the same verdict."""
    from segmaformer.runtime.checks.scan import check_scan
    from segmaformer.runtime.errors import InputError
    from segmaformer.runtime.scans.formats import read_scan
    from segmaformer.runtime.system.memory import default_budget_bytes

    refused = [finding.what for finding in check_scan([path]) if finding.level == "refuse"]
    try:
        read_scan([path], budget_bytes=default_budget_bytes())
    except InputError as error:
        # The memory that is free, and so the budget in the text, may differ a little.
        if not refused or refused[0].split(" MiB")[0] != str(error).split(" MiB")[0]:
            raise AssertionError(f"checking says {refused}, reading says {error}") from error
        raise
    if refused:
        raise AssertionError(f"checking says {refused}, reading takes it")
