"""Early end of work, because of a signal or because a caller asks for it.

An exception raised wherever a signal happens to meet Python may be lost, as in a callback of
native code. So a request to end only sets a flag and tells native runs to stop; the work raises
at the next place where that is safe.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from segmaformer.runtime.errors import CancelledError

_POLL_SECONDS = 0.05

_requested = threading.Event()
_lock = threading.RLock()
_running: dict[object, Callable[[], None]] = {}
_cancel: ContextVar[threading.Event | None] = ContextVar("cancel", default=None)
_deferring = False


def request() -> None:
    """Ask all work of this process to end, including native runs; from any thread."""
    with _lock:
        _requested.set()
        running = [*_running.values()]
    for terminate in running:
        terminate()


def check() -> None:
    """Raise an error if the work of this thread must end; for places where that is safe.

    Raises
    ------
    KeyboardInterrupt
        All work of the process must end.
    CancelledError
        The event of :func:`ended_by` was set.
    """
    if _requested.is_set():
        raise KeyboardInterrupt
    cancel = _cancel.get()
    if cancel is not None and cancel.is_set():
        raise CancelledError("the prediction was cancelled")


@contextmanager
def ended_by(cancel: threading.Event | None) -> Iterator[None]:
    """Let an event end the work of a block, on this thread; None adds no event."""
    token = _cancel.set(cancel)
    try:
        yield
    finally:
        _cancel.reset(token)


@contextmanager
def terminable(terminate: Callable[[], None]) -> Iterator[None]:
    """Let the native run of a block be ended by `terminate`, called from another thread.

    Raises
    ------
    KeyboardInterrupt, CancelledError
        As for :func:`check`, in place of any error or result of an ended run.
    """
    check()
    key = object()
    with _lock:
        _running[key] = terminate
        if _requested.is_set():
            terminate()
    try:
        with _watching(_cancel.get(), terminate):
            yield
    finally:
        with _lock:
            del _running[key]
        check()


@contextmanager
def _watching(cancel: threading.Event | None, terminate: Callable[[], None]) -> Iterator[None]:
    if cancel is None:
        yield
        return
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(_POLL_SECONDS):
            if cancel.is_set():
                terminate()
                return

    watcher = threading.Thread(target=watch, name="cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def ignore_here(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal by doing nothing; another thread answers it by :func:`request`."""


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let handlers of SIGINT and SIGTERM raise after a block that native code calls back in.

    A handler's exception requests an end at once and is raised after the block.
    """
    global _deferring
    if _deferring or threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {n: each for n, each in found.items() if callable(each) and each is not ignore_here}
    raised: list[BaseException] = []

    def hold(number: int, frame: FrameType | None) -> None:
        try:
            handlers[signal.Signals(number)](number, frame)
        except BaseException as error:
            raised.append(error)
            request()

    _deferring = True
    for number in handlers:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _deferring = False
        if raised:
            _requested.clear()
            raise raised[0]
