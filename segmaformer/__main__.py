"""The start of ``sgmf``, also as ``python -m segmaformer``.

Until the command answers signals itself, one that comes during the imports ends the process
with the same message and code, and no traceback.
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
    """End the process where one comes, unless whoever started it had it ignored."""
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
