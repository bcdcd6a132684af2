"""Errors that a caller may want to tell apart; callers' mistakes stay ValueError and the like."""

from __future__ import annotations

from segmaformer.runtime.system.memory import MIB


class SgmfError(Exception):
    """Base of the errors below."""


class PackageError(SgmfError):
    """A package is damaged, incomplete, altered or of an unknown version."""


class InputError(SgmfError):
    """A scan or a checkpoint cannot be used: it is damaged or does not fit the model."""


class GeometryError(InputError):
    """The position, spacing or orientation of a scan is missing or impossible."""


class BudgetError(InputError):
    """The memory budget cannot hold what a scan needs.

    Parameters
    ----------
    what
        Name of the data that need the memory.
    budget_bytes, least_bytes
        The memory budget, and the least that would suffice.
    """

    def __init__(self, what: str, budget_bytes: int, least_bytes: int):
        super().__init__(
            f"{what} of this scan need at least {-(-least_bytes // MIB)} MiB, the memory budget "
            f"is {budget_bytes // MIB} MiB; raise --memory-budget (default: half of the free "
            "memory)"
        )
        self.budget_bytes, self.least_bytes = budget_bytes, least_bytes


class CancelledError(SgmfError):
    """The caller asked for a prediction to stop."""


class ParityError(SgmfError):
    """A written network does not compute what its reference computes."""


class BackendError(SgmfError):
    """An inference backend is missing, failed, or is not the one asked for."""


class EngineError(SgmfError):
    """A built engine cannot be trusted: altered, of another machine, or writable by others."""


class MissingExtraError(SgmfError, ImportError):
    """An optional package is not installed; the message names the extra that installs it."""
