"""JSON of which every name counts: one that stands twice is refused, not dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from segmaformer.runtime.errors import InputError

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
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} stands twice in one object; keep one of them")
        found[name] = value
    return found
