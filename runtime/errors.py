"""Errors that a caller may want to tell apart; callers' mistakes stay ValueError and the like."""

from __future__ import annotations


class SgmfError(Exception):
    """Base of the errors below."""


class PackageError(SgmfError):
    """A package is damaged, incomplete, of an unknown version or not to be trusted."""


class InputError(SgmfError):
    """A scan or a checkpoint cannot be used: it is damaged or does not fit the model."""


class GeometryError(InputError):
    """The position, spacing or orientation of a scan is missing or impossible."""


class ParityError(SgmfError):
    """A written network does not compute what its reference computes."""


class BackendError(SgmfError):
    """An inference backend is missing, failed, or is not the one asked for."""


class MissingExtraError(SgmfError, ImportError):
    """An optional package is not installed; the text names the extra that brings it."""
