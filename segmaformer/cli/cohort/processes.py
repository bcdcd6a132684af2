"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.host import Link
from segmaformer.cli.cohort.worker import Message, Task, run_worker
from segmaformer.runtime.system.memory import MIB, available_bytes
from segmaformer.runtime.system.sending import send

_MEMORY_SHARE = 0.8


class ProcessLink:
    """Connection to a process."""

    def __init__(self, process: BaseProcess, connection: Connection):
        self._process = process
        self.connection = connection

    def give(self, case: Case | None) -> None:
        """Send a scan; a process that is gone is found by its end."""
        with suppress(OSError):
            send(self.connection, case)

    def messages(self) -> Sequence[Message]:
        """Return what has come; see :class:`segmaformer.cli.cohort.host.Link`."""
        found: list[Message] = []
        try:
            while self.connection.poll():
                found.append(self.connection.recv())
        except (EOFError, OSError):
            if not found:
                raise EOFError from None
        return found

    def ending(self) -> str:
        """Wait for the process, and describe how it ended."""
        self.connection.close()
        self._process.join()
        return _ending(self._process.exitcode)

    def ask_to_end(self, *, is_idle: bool) -> None:
        """Close the connection, which ends a process that waits, and send SIGTERM to others."""
        self.connection.close()
        if not is_idle:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait for the process, and kill it after some seconds."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class ProcessHost:
    """Machine of the command, and the processes on it.

    Parameters
    ----------
    processors
        Number of processors that the processes share.
    """

    gpus = 1

    def __init__(self, processors: int):
        self.processors = processors
        self._context = _context()
        self._links: list[ProcessLink] = []

    def start(self, task: Task) -> ProcessLink:
        """Start a process."""
        here, there = self._context.Pipe()
        process = self._context.Process(target=run_worker, args=(there, task), daemon=True)
        process.start()
        there.close()
        link = ProcessLink(process, here)
        self._links.append(link)
        return link

    def look(self, seconds: float) -> list[ProcessLink]:
        """Return the processes that have said something or ended."""
        self._links = [each for each in self._links if not each.connection.closed]
        found = {each.connection: each for each in self._links}
        ready = multiprocessing.connection.wait([*found], seconds)
        return [found[each] for each in ready]  # type: ignore[index]

    def leave_out(self, link: Link) -> bool:
        """End a process; there are no other machines."""
        link.end(0)
        return False

    def fitting(self, peak_mib: float) -> int:
        """Return how many processes of this size the free memory holds."""
        return int(_MEMORY_SHARE * available_bytes() / (peak_mib * MIB))


def _context() -> ForkServerContext | SpawnContext:
    """Return the way to start processes: from one that has made the imports, if possible."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segmaformer.cli.cohort.preload"])
    return context


def _ending(code: int | None) -> str:
    if code is None or code >= 0 or sys.platform == "win32":
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
