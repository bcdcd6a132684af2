"""The line of a user's network at which an error arose."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

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
    places = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _NOT_THE_USERS
    ]
    own = [place for place in places if _INSTALLED.isdisjoint(place[0].parts)] or places
    return f" ({own[-1][0]}, line {own[-1][1]})" if own else ""
