"""A process that segments one scan after the other, as the pool hands them out.

It asks for the next scan while it works on one, so that reading and writing lie beside the network.
It ends when the pool says so, at SIGTERM, and when the process of the pool is gone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmaformer.cli.cases import Case
from segmaformer.cli.exit_codes import EXPECTED_ERRORS, exit_code, message_of
from segmaformer.cli.interruption import ending_on_signals
from segmaformer.cli.predictor_options import PredictorOptions
from segmaformer.cli.segment_case import all_settings, result_of, segment_each
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.progress import Progress, Report
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
    may_use_gpu
        Whether a GPU may run its network, so that it needs one.
    """

    options: PredictorOptions
    names: bool
    budget_bytes: int | None
    may_use_gpu: bool = True


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
class Unfit:
    """Message that the worker's machine cannot serve, and why."""

    text: str


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


Message = Ready | NotOpened | Unfit | Line | Wanting | Done | Idle


def run_worker(connection: Connection, task: Task) -> None:
    """Segment scans until the pool closes the connection or sends None to an idle worker."""
    # A terminal's Ctrl-C reaches all processes; the pool's decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with ending_on_signals(_give_up):
        try:
            memory.limit_default(task.budget_bytes)
            work(
                task,
                connection.recv,
                lambda message: send(connection, message),
                task.options.open_again,
            )
        except (KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
            discard_all()


def work(
    task: Task,
    take: Callable[[], Case | None],
    tell: Callable[[Message], None],
    open_predictor: Callable[[Report], Predictor | Ensemble],
) -> None:
    """Segment scans until None comes while the worker is idle.

    Parameters
    ----------
    task
        Work, apart from the scans.
    take
        Waits for a scan, or for None.
    tell
        Sends a message to the pool; called by one thread at a time.
    open_predictor
        Opens the predictor; called with a function that takes lines for people.
    """
    telling = threading.Lock()

    def tell_alone(message: Message) -> None:
        with telling:
            tell(message)

    def say(text: str) -> None:
        tell_alone(Line(text))

    def handed_out(first: Case) -> Iterator[Case]:
        case: Case | None = first
        while case is not None:
            yield case
            tell_alone(Wanting())
            case = take()

    try:
        predictor = open_predictor(say)
    except EXPECTED_ERRORS as error:
        tell_alone(NotOpened(message_of(error), exit_code(error)))
        return
    tell_alone(Ready(predictor.backend, all_settings(predictor)))
    while (first := take()) is not None:
        cases = handed_out(first)
        for case, outcome in segment_each(predictor, cases, _no_bar, say, names=task.names):
            tell_alone(Done(case.label_map, result_of(case, outcome), memory.peak_mib()))
        tell_alone(Idle())


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
