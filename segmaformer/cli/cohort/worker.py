"""A process that segments one scan after the other, as the pool hands them out.

It asks for the next scan while it works on one, so that reading and writing lie beside the network.
It ends when the pool says so, at SIGTERM, and when the process of the pool is gone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmaformer.cli.cases import Case
from segmaformer.cli.exit_codes import EXPECTED_ERRORS, exit_code, message_of
from segmaformer.cli.interruption import ending_on_signals
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.cli.segment_case import all_settings, result_of, segment_each
from segmaformer.runtime.progress import Progress
from segmaformer.runtime.results.dicom.segments import SegmentationType
from segmaformer.runtime.system import interruption, memory
from segmaformer.runtime.system.sending import send
from segmaformer.runtime.system.unfinished import discard_all

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


@dataclass(frozen=True)
class Task:
    """Work of a worker, apart from its scans.

    Attributes
    ----------
    options
        Options of its predictor.
    names
        Show the scans' file names in previews and reports.
    budget_bytes
        Its part of the default memory budget; None leaves it whole.
    """

    options: PredictorOptions
    names: bool
    budget_bytes: int | None


@dataclass(frozen=True)
class Ready:
    """Message of an open predictor: its backend, and its settings by type of segmentation."""

    backend: str
    settings: dict[SegmentationType | None, dict[str, Any]]


@dataclass(frozen=True)
class NotOpened:
    """Message that no predictor could be opened: the error's text and exit code."""

    message: str
    code: int


@dataclass(frozen=True)
class Line:
    """A line for people."""

    text: str


@dataclass(frozen=True)
class Wanting:
    """Request for a scan; the answer is a case, or None if there is none to begin now."""


@dataclass(frozen=True)
class Done:
    """A scan's entry in the summary, found by its label map, and the largest memory so far."""

    label_map: Path
    result: dict[str, Any]
    peak_mib: float | None


@dataclass(frozen=True)
class Idle:
    """Message that all scans that were handed out are done."""


Message = Ready | NotOpened | Line | Wanting | Done | Idle


def run_worker(connection: Connection, task: Task) -> None:
    """Segment scans until the pool closes the connection or sends None to an idle worker."""
    # A terminal's Ctrl-C reaches all processes; the pool's decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with ending_on_signals(_give_up):
        try:
            memory.limit_default(task.budget_bytes)
            _work(connection, task)
        except (KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
            discard_all()


def _work(connection: Connection, task: Task) -> None:
    sending = threading.Lock()

    def tell(message: Message) -> None:
        with sending:
            send(connection, message)

    def say(text: str) -> None:
        tell(Line(text))

    def handed_out(first: Case) -> Iterator[Case]:
        case: Case | None = first
        while case is not None:
            yield case
            tell(Wanting())
            case = connection.recv()

    try:
        predictor = task.options.open_again(say)
    except EXPECTED_ERRORS as error:
        tell(NotOpened(message_of(error), exit_code(error)))
        return
    tell(Ready(predictor.backend, all_settings(predictor)))
    while (first := connection.recv()) is not None:
        cases = handed_out(first)
        for case, outcome in segment_each(predictor, cases, _no_bar, say, names=task.names):
            tell(Done(case.label_map, result_of(case, outcome), memory.peak_mib()))
        tell(Idle())


def _no_bar(_label: str) -> nullcontext[Progress]:
    return nullcontext(lambda _stage, _done, _count: interruption.check())


def _end_with_parent() -> None:
    import multiprocessing.connection

    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _give_up() -> None:
    discard_all()
    os._exit(1)
