"""Worker that segments nothing, and dies of scans with certain names.

It dies of a deadly scan always, of a frail one in the process that had it first.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from segmaformer.cli.cases import Case
from segmaformer.cli.cohort.worker import Done, Idle, NotOpened, Ready, Task, Unfit, Wanting


def run(connection: Connection, task: Task) -> None:
    """Answer as a worker does; `task.names` refuses to open anything, without a GPU it is unfit."""
    if task.names:
        connection.send(NotOpened("no such network", 4))
        return
    if not task.may_use_gpu:
        connection.send(Unfit("this machine does not see the scans"))
        return
    connection.send(Ready("stand-in", {None: {"networks": []}}))
    while (case := _receive(connection)) is not None:
        ahead: Case | None = case
        while ahead is not None:
            case, ahead = ahead, _next(connection)
            _work(connection, case)
        connection.send(Idle())


def _receive(connection: Connection) -> Case | None:
    """Take a scan, and note the process that had it first."""
    case: Case | None = connection.recv()
    if case is not None and not _note(case).exists():
        _note(case).write_text(f"{os.getpid()}")
    return case


def _next(connection: Connection) -> Case | None:
    connection.send(Wanting())
    return _receive(connection)


def _work(connection: Connection, case: Case) -> None:
    is_first = _note(case).read_text() == f"{os.getpid()}"
    if case.name.startswith("deadly") or (case.name.startswith("frail") and is_first):
        os.kill(os.getpid(), signal.SIGKILL)
    result = {"scan": [str(path) for path in case.scan], "exit_code": 0}
    connection.send(Done(case.label_map, result, 100.0))


def _note(case: Case) -> Path:
    return Path(case.scan[0]).with_suffix(".first")
