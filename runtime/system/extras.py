"""Optional packages and the extras that bring them."""

from __future__ import annotations

import importlib.util

from segmaformer.runtime.errors import MissingExtraError


def require_extra(*modules: str, extra: str) -> None:
    """Raise an error unless all `modules` are installed.

    Raises
    ------
    MissingExtraError
        A module is missing; the message names it and the command that installs it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{', '.join(missing)} not installed; run: pip install 'segmaformer[{extra}]'"
        )
