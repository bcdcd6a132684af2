"""Interface of the place where workers run: this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.worker import Message, Task

RAY_HERE = "local"
"""Address that stands for a Ray of the command's own, on this machine."""


class Link(Protocol):
    """Connection to one worker."""

    def give(self, case: Case | None) -> None:
        """Send a scan, or None where there is none to begin; it is lost if the worker has ended."""

    def messages(self) -> Sequence[Message]:
        """Return what the worker has said.

        Raises
        ------
        EOFError
            The worker has ended.
        """

    def ending(self) -> str:
        """Describe how a worker ended, as in ``was ended by SIGKILL``, and forget it."""

    def ask_to_end(self, *, is_idle: bool) -> None:
        """Ask a worker to end: at once if it waits for a scan, else at the next safe place."""

    def end(self, seconds: float) -> None:
        """Wait for the worker to end, and end it by force after some seconds."""


class Host(Protocol):
    """Place where workers run.

    Attributes
    ----------
    processors
        Number of processors that workers share.
    gpus
        Number of workers that GPUs keep busy.
    """

    processors: int
    gpus: int

    def start(self, task: Task) -> Link:
        """Start a worker."""

    def look(self, seconds: float) -> Sequence[Link]:
        """Return the workers that have said something or ended; wait some seconds for one."""

    def leave_out(self, link: Link) -> bool:
        """End a worker and start no more on its machine; return whether there are others."""

    def fitting(self, peak_mib: float) -> int:
        """Return how many workers of this size the memory holds."""
