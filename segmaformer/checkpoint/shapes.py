"""Reading sizes from the shapes of weights, where every surprise is a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segmaformer.runtime.errors import InputError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def shape_of(shapes: Shapes, key: str, rank: int, network: str) -> Shape:
    """Shape of weight `key`, of `rank` axes; `network` names the refusal.

    Raises
    ------
    InputError
        The weight is missing, or has other axes or an empty one.
    """
    if key not in shapes:
        raise InputError(f"the checkpoint lacks {key}, which a {network} always has")
    if len(shapes[key]) != rank or min(shapes[key], default=1) < 1:
        raise InputError(f"{key} has shape {shapes[key]}; expected {rank} axes, none of them empty")
    return shapes[key]


def count_numbered(shapes: Shapes, prefix: str) -> int:
    """How many different numbers follow `prefix` in the names."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({match[1] for key in shapes if (match := pattern.match(key))})


def one_or_three(extent: Sequence[int]) -> int | list[int]:
    """An extent along three axes as configurations have it: one number where they agree."""
    return extent[0] if len(set(extent)) == 1 else list(extent)


def ratio_of(larger: int, smaller: int, what: str) -> int:
    """`larger` over `smaller`, which must be whole; `what` names the refusal.

    Raises
    ------
    InputError
        It is not whole.
    """
    if larger % smaller:
        raise InputError(f"{what} is {larger}; expected a multiple of {smaller}")
    return larger // smaller


def refuse_contradictions(seen: Mapping[str, Any], given: Mapping[str, Any], network: str) -> None:
    """Refuse given configuration keys that the weights show to be otherwise.

    Parameters
    ----------
    seen
        Keys that the weights prove.
    given
        Keys that plans.json or the caller state.
    network
        Names the network.

    Raises
    ------
    InputError
        A key in both has two values.
    """
    for key in seen:
        stated = list(given[key]) if isinstance(given.get(key), tuple) else given.get(key)
        if key in given and stated != seen[key]:
            raise InputError(
                f"the plans or settings say {key} {given[key]}, but the weights are of a {network} "
                f"with {key} {seen[key]}; give the plans.json of this training"
            )
