"""JSON of which every name counts: one that stands twice is refused, not dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.scans.file_kinds import START_BYTES, file_kind

_MOST_BYTES: Final = 1 << 26


def parse_json(text: bytes) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        It is no JSON, is nested too deep, or an object has a name twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json_file(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        It is larger than any such file, or :func:`parse_json` refuses it.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(f"{path} has {size >> 20} MiB; expected at most {_MOST_BYTES >> 20}")
    text = path.read_bytes()
    try:
        return parse_json(text)
    except ValueError as error:
        kind = file_kind(text[:START_BYTES])
        if kind is not None:
            raise InputError(f"{path} is {kind.name}; expected JSON. {kind.advice}") from None
        raise InputError(f"{path} is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} stands twice in one object; keep one of them")
        found[name] = value
    return found
