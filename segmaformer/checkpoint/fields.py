"""Checked access to the fields of plans.json and dataset.json, and lists for messages."""

from __future__ import annotations

import numbers
import reprlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import MOST_TILE_VOXELS
from segmaformer.runtime.spec import Triple


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return `value` if it is a dictionary; `where` names it in the error.

    Raises
    ------
    InputError
        The value is no dictionary.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is {reprlib.repr(value)}; expected a dictionary")
    return value


def sequence(value: Any, where: str, *, length: int | None = None) -> Sequence[Any]:
    """Return `value` if it is a list or tuple, of `length` entries if that is given.

    Raises
    ------
    InputError
        The value is no list, or has another length.
    """
    if not isinstance(value, list | tuple):
        raise InputError(f"{where} is {reprlib.repr(value)}; expected a list")
    if length is not None and len(value) != length:
        raise InputError(
            f"{where} has {len(value)} entries, {reprlib.repr(value)}; expected {length}"
        )
    return value


def integer(value: Any, where: str) -> int:
    """Return `value` as an int if it is a whole number, but not true or false.

    Raises
    ------
    InputError
        The value is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{where} is {reprlib.repr(value)}; expected a whole number")
    return int(value)


def number(value: Any, where: str) -> float:
    """Return `value` as a float if it is a finite number.

    Raises
    ------
    InputError
        The value is no finite number.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not abs(value) <= sys.float_info.max:  # as NaN is not
        raise InputError(f"{where} is {reprlib.repr(value)}; expected a finite number")
    return float(value)


def integers(value: Any, where: str, *, length: int | None = None) -> tuple[int, ...]:
    """Return `value` as whole numbers, `length` of them if that is given.

    Raises
    ------
    InputError
        The value is no list of whole numbers, or has another length.
    """
    return tuple(integer(item, where) for item in sequence(value, where, length=length))


def triple(value: Any, where: str) -> Triple:
    """Return `value` as depth, height and width in voxels.

    Raises
    ------
    InputError
        The value is not three positive whole numbers, or more voxels than any backend takes.
    """
    depth, height, width = integers(value, where, length=3)
    if min(depth, height, width) < 1:
        raise InputError(f"{where} is {reprlib.repr(value)}; expected positive voxel counts")
    if depth * height * width > MOST_TILE_VOXELS:
        raise InputError(
            f"{where} is {reprlib.repr(value)}; expected at most {MOST_TILE_VOXELS} voxels in all"
        )
    return depth, height, width


def times(extents: Iterable[int]) -> str:
    """Join extents for a message, such as ``128x128x64``."""
    return "x".join(map(str, extents))


def listing(names: Iterable[str], limit: int = 10) -> str:
    """Join up to `limit` names for a message, and count the rest."""
    found = list(names)
    rest = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + rest
