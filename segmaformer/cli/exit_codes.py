"""Exit codes of the command."""

from __future__ import annotations

from segmaformer.runtime.errors import (
    EngineError,
    InputError,
    PackageError,
    ParityError,
    SgmfError,
)

DONE, FAILED, USAGE, REFUSED, UNVERIFIED = range(5)


class OtherProcessError(SgmfError):
    """Error that ended another process of the run, with that one's exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


EXPECTED_ERRORS = (SgmfError, OSError, ValueError, MemoryError)
"""Errors that end a run with a message; any other is a defect and shows its traceback."""

_WRONG_PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    if isinstance(error, OtherProcessError):
        return error.code
    if isinstance(error, PackageError | ParityError | EngineError):
        return UNVERIFIED
    if isinstance(error, InputError):
        return REFUSED
    return USAGE if isinstance(error, _WRONG_PATHS) else FAILED


def message_of(error: BaseException) -> str:
    """Return the error's text, or its type if it has none."""
    return str(error) or type(error).__name__
