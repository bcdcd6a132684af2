"""Entry point of ``sgmf``, also as ``python -m segmaformer``.

A signal that arrives while the command is being imported ends the process with the message and
code that the command itself would give, and no traceback.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"sgmf: interrupted\n")
    os._exit(1)


def answer_signals() -> None:
    """End the process at a signal, unless the parent process had it ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def start() -> NoReturn:
    """Run the command.

    Once it has ended, signals are ignored: Python restores their default actions while it exits,
    and a signal in that moment would give a finished run the exit code of a killed one.
    """
    answer_signals()
    try:
        from segmaformer.cli import main

        main()
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    start()
