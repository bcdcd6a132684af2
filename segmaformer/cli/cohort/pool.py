"""Workers that share the scans of a batch, and what happens when one of them dies.

A process that ends without being asked to, as after a segmentation fault or where memory is short,
had up to three scans: in the network, ahead and behind. Each is tried once more, alone in its
process, so that the one that ends a process is known. Where that happens again, the scan has
failed, and the others go on.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort import worker as messages
from segmaformer.cli.cohort.host import Host, Link
from segmaformer.cli.cohort.worker import Ready, Task
from segmaformer.cli.console import say
from segmaformer.cli.exit_codes import FAILED, OtherProcessError
from segmaformer.cli.segment_case import failed_result, remove_leftovers
from segmaformer.runtime.system import interruption

_LOOK_SECONDS = 0.2
_END_SECONDS = 2.5
_TRIES = 2
_MOST_UNOPENED = 10
"""Number of processes that may die while they open what others have opened."""


@dataclass(eq=False)
class _Worker:
    """One worker and the scans that it was given.

    Attributes
    ----------
    given
        Scans without a result yet, by their label maps.
    is_ready, is_idle
        Whether its predictor is open, and whether it waits for a scan.
    retries
        Whether its scan is one that was tried before.
    """

    link: Link
    given: dict[Path, Case] = field(default_factory=dict)
    is_ready: bool = False
    is_idle: bool = False
    retries: bool = False


class Pool:
    """Workers, which end with the block.

    The first chooses the backend; the others, which start when there are scans, take the same.

    Parameters
    ----------
    host
        Place where they run.
    task
        Work of each.
    count
        Number of workers.

    Attributes
    ----------
    peak_mib
        Largest memory that a process has had; 0 if the system does not tell.
    """

    def __init__(self, host: Host, task: Task, count: int):
        self._host, self._task, self._count = host, task, count
        self._workers: list[_Worker] = []
        self._left = deque[Case]()
        self._again = deque[Case]()
        self._results = deque[tuple[Case, dict[str, Any]]]()
        self._unopened = 0
        self.peak_mib = 0.0
        self.ready: Ready | None = None

    def __enter__(self) -> Pool:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def wait_until_ready(self) -> Ready:
        """Return what the first process says of its predictor.

        Raises
        ------
        OtherProcessError
            It could not open one.
        """
        while self.ready is None:
            self._look()
        options = self._task.options.naming(self.ready.settings[None]["networks"])
        self._task = dataclasses.replace(self._task, options=options)
        return self.ready

    def segment(self, cases: Iterable[Case]) -> Iterator[tuple[Case, dict[str, Any]]]:
        """Segment scans.

        Yields
        ------
        case, result
            A scan and its entry in the summary, in the order in which they are done.

        Raises
        ------
        OtherProcessError
            No process can open a predictor.
        KeyboardInterrupt
            The run was asked to end.
        """
        self._left.extend(cases)
        while len(self._workers) < min(self._count, len(self._left)):
            self._start()
        while True:
            self._hand_out()
            while self._results:
                yield self._results.popleft()
            if not (self._left or self._again or any(each.given for each in self._workers)):
                return
            self._look()

    def _start(self) -> None:
        self._workers.append(_Worker(self._host.start(self._task)))

    def _hand_out(self) -> None:
        """Give every idle process a scan."""
        for worker in self._workers:
            queue = self._left or self._again
            if worker.is_idle and queue:
                worker.retries = queue is self._again
                self._give(worker, queue.popleft())
                worker.is_idle = False

    def _give(self, worker: _Worker, case: Case | None) -> None:
        if case is not None:
            worker.given[case.label_map] = case
        worker.link.give(case)

    def _look(self) -> None:
        """Take what the workers say, and look after those that have ended."""
        interruption.check()
        waiting = {each.link: each for each in self._workers}
        for link in self._host.look(_LOOK_SECONDS):
            worker = waiting[link]
            try:
                messages = link.messages()
            except EOFError:
                self._bury(worker)
                continue
            for message in messages:
                self._take(worker, message)

    def _take(self, worker: _Worker, message: messages.Message) -> None:
        match message:
            case messages.Ready():
                worker.is_ready = worker.is_idle = True
                self.ready = self.ready or message
            case messages.NotOpened():
                raise OtherProcessError(message.message, message.code)
            case messages.Unfit():
                self._dismiss(worker, message.text)
            case messages.Line():
                say(message.text)
            case messages.Wanting():
                # One that was tried before has its process alone.
                more = self._left and not worker.retries
                self._give(worker, self._left.popleft() if more else None)
            case messages.Done():
                self.peak_mib = max(self.peak_mib, message.peak_mib or 0)
                self._results.append((worker.given.pop(message.label_map), message.result))
            case messages.Idle():
                worker.is_idle = True

    def _bury(self, worker: _Worker) -> None:
        """Put the scans of a process that has ended back, and start another."""
        self._workers.remove(worker)
        how = worker.link.ending()
        if not worker.is_ready:
            self._unopened += 1
            if self.ready is None or self._unopened > _MOST_UNOPENED:
                raise OtherProcessError(f"a process {how} while it opened the package", FAILED)
        cases = [*worker.given.values()]
        remove_leftovers(cases)
        if worker.retries:
            message = f"the process that segmented it {how}, {_TRIES} times"
            self._results.extend((case, failed_result(case, message, FAILED)) for case in cases)
        else:
            names = ", ".join(case.name for case in cases) or "no scan"
            say(f"a process {how}; it had {names}, tried once more")
            self._again.extend(cases)
        if len(self._workers) < len(self._left) + len(self._again):
            self._start()

    def _dismiss(self, worker: _Worker, why: str) -> None:
        """Go on without a worker whose machine cannot serve."""
        self._workers.remove(worker)
        has_others = self._host.leave_out(worker.link)
        if not (self._workers or has_others):
            raise OtherProcessError(why, FAILED)
        say(why)
        if not self._workers:
            self._start()

    def _end(self) -> None:
        """End all workers: those that wait at once, the others at the next safe place."""
        for worker in self._workers:
            worker.link.ask_to_end(is_idle=worker.is_idle)
        deadline = time.monotonic() + _END_SECONDS
        for worker in self._workers:
            worker.link.end(max(0.0, deadline - time.monotonic()))
        self._workers.clear()
