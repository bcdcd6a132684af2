"""Check that configuration values are of the same kind as the network's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAY_BE_ZERO = ("patch_padding", "decoder_dropout", "negative_slope")
_MAY_BE_FRACTIONS = ("mlp_ratios",)
_MAY_BE_PER_AXIS = ("patch_kernel_size", "patch_stride", "patch_padding")
_MAY_BE_NONE = ("nslices", "input_size")
_LARGEST = 10**8


def check_values(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse values that are of another kind than the defaults.

    The length of lists, and whether values suit each other, is checked by the network.

    Parameters
    ----------
    config
        Some or all keys of `defaults`.
    defaults
        A valid value for every key.

    Raises
    ------
    ValueError
        A value is of another kind, such as a word for true or false, or a size below one.
    """
    for key, value in config.items():
        if value is None and key in _MAY_BE_NONE:
            continue
        if not _alike(key, value, defaults[key]):
            raise ValueError(f"{key} is {value!r}; expected {_expected(key, defaults[key])}")


def _alike(key: str, value: Any, default: Any) -> bool:
    if isinstance(default, list):
        listed = isinstance(value, list | tuple) and len(value) > 0
        return listed and all(_alike_entry(key, entry, default[0]) for entry in value)
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    fraction = isinstance(default, float) or key in _MAY_BE_FRACTIONS
    if isinstance(value, bool) or not isinstance(value, int | float if fraction else int):
        return False
    return 0 < value <= _LARGEST or (value == 0 and key in _MAY_BE_ZERO)


def _alike_entry(key: str, entry: Any, default: Any) -> bool:
    """Tell if a list's entry is as the default's, or three such where axes may differ."""
    if key in _MAY_BE_PER_AXIS and isinstance(entry, list | tuple):
        return len(entry) == 3 and all(_alike(key, extent, default) for extent in entry)
    return _alike(key, entry, default)


def _expected(key: str, default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, str):
        return f"text such as {default!r}"
    lowest = "zero or more" if key in _MAY_BE_ZERO else "more than zero"
    bounds = f"{lowest} and at most {_LARGEST:,}"
    if isinstance(default, list):
        return f"a list such as {default}, of the same kind of entries, each {bounds}"
    return f"a {'whole ' if isinstance(default, int) else ''}number such as {default}, {bounds}"
