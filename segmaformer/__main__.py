"""Entry point of ``sgmf``, also as ``python -m segmaformer``.

A signal that arrives while the command is being imported ends the process with the message and
code that the command itself would give, and no traceback.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"sgmf: interrupted\n")
    os._exit(1)


def answer_signals() -> None:
    """End the process at a signal, unless the parent process had it ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def start() -> NoReturn:
    """Run the command."""
    answer_signals()
    from segmaformer.cli import main

    main()


if __name__ == "__main__":
    start()
