"""SIGINT and SIGTERM end a run within seconds, and nothing unfinished stays behind.

A thread waits for signals, since the main thread may be in native code for a minute. It asks all
work to end, which most does at the next tile, plane or step. Work that goes on for
`GRACE_SECONDS`, such as PyTorch in the middle of a tile, ends with the process, after all
unfinished files were removed. A signal that the parent process had set to be ignored stays
ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segmaformer.runtime.system import interruption

GRACE_SECONDS = 1.0

_first_answers: list[Callable[[], None]] = []


@contextmanager
def ending_on_signals(give_up: Callable[[], None]) -> Iterator[None]:
    """Answer signals during a block.

    Parameters
    ----------
    give_up
        Ends the process; called from the watching thread if the block outlasts the grace.

    Raises
    ------
    KeyboardInterrupt
        Raised from within the block, at a place where that is safe.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    finished = threading.Event()

    def watch() -> None:
        while received := os.read(reading, 64):
            if any(number in numbers for number in received):
                if _first_answers:
                    _first_answers.pop()()
                    continue
                interruption.request()
                if not finished.wait(GRACE_SECONDS):
                    give_up()

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    handlers = {number: signal.signal(number, interruption.ignore_here) for number in numbers}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        finished.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)
        watcher.join()
        os.close(reading)


@contextmanager
def first_signal_calls(answer: Callable[[], None]) -> Iterator[None]:
    """Call a function at the first signal of a block, for work that ends in order.

    Signals after that one end the run as ever. `answer` is called from the watching thread.
    """
    _first_answers.append(answer)
    try:
        yield
    finally:
        _first_answers.clear()
