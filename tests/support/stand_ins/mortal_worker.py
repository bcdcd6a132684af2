"""Worker that segments nothing, and dies of scans with certain names."""

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
    while (case := connection.recv()) is not None:
        ahead: Case | None = case
        while ahead is not None:
            case, ahead = ahead, _next(connection)
            _work(connection, case)
        connection.send(Idle())


def _next(connection: Connection) -> Case | None:
    connection.send(Wanting())
    found: Case | None = connection.recv()
    return found


def _work(connection: Connection, case: Case) -> None:
    note = Path(case.scan[0]).with_suffix(".tried")
    if case.name.startswith("deadly") or (case.name.startswith("frail") and not note.exists()):
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    result = {"scan": [str(path) for path in case.scan], "exit_code": 0}
    connection.send(Done(case.label_map, result, 100.0))
