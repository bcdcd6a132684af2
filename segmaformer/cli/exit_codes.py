"""One exit code for each fate of a run."""

from __future__ import annotations

from segmaformer.runtime.errors import (
    EngineError,
    InputError,
    PackageError,
    ParityError,
    SgmfError,
)

DONE, FAILED, USAGE, REFUSED, UNVERIFIED = range(5)

EXPECTED_ERRORS = (SgmfError, OSError, ValueError, MemoryError)
"""What ends a run with a message; anything else is a defect and shows its traceback."""

_WRONG_PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def exit_code(error: BaseException) -> int:
    """The command's exit code for an error."""
    if isinstance(error, PackageError | ParityError | EngineError):
        return UNVERIFIED
    if isinstance(error, InputError):
        return REFUSED
    return USAGE if isinstance(error, _WRONG_PATHS) else FAILED


def message_of(error: BaseException) -> str:
    """The error's text; its type where it has none."""
    return str(error) or type(error).__name__
