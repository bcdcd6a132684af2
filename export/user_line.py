"""The line of a user's network at which an error arose."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import FrameType

_NOT_THE_USERS = {"segmaformer", "torch", *sys.stdlib_module_names}
_INSTALLED = {"site-packages", "dist-packages"}


def user_line(error: BaseException) -> str:
    """Name the innermost line of the user's code in an error's traceback.

    Installed packages count as the user's code where no other is in the traceback.

    Returns
    -------
    str
        `` (FILE, line N)``, or nothing where only PyTorch, Python and this project ran.
    """
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _top_level(frame) not in _NOT_THE_USERS
    ]
    own = [place for place in frames if is_users_code(place[0])] or frames
    return f" ({own[-1][0].f_code.co_filename}, line {own[-1][1]})" if own else ""


def is_users_code(frame: FrameType) -> bool:
    """Tell if a frame runs code that is not installed, nor Python's, nor this project's."""
    path = Path(frame.f_code.co_filename)
    return _top_level(frame) not in _NOT_THE_USERS and _INSTALLED.isdisjoint(path.parts)


def _top_level(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
