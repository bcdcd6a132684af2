"""Reading of sizes from the shapes of weights; every surprise is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segmaformer.runtime.errors import InputError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def shape_of(shapes: Shapes, key: str, rank: int, network: str) -> Shape:
    """Return the shape of weight `key`, of `rank` axes; `network` is for the error.

    Raises
    ------
    InputError
        The weight is missing, has another number of axes or an empty one.
    """
    if key not in shapes:
        raise InputError(f"the checkpoint lacks {key}, which a {network} always has")
    if len(shapes[key]) != rank or min(shapes[key], default=1) < 1:
        raise InputError(f"{key} has shape {shapes[key]}; expected {rank} axes, none of them empty")
    return shapes[key]


def conv_shape(shapes: Shapes, key: str, network: str) -> Shape:
    """Return the shape of the weight `key` of a 3-D convolution; `network` names the refusal.

    Raises
    ------
    InputError
        The weight is missing, is of a 2-D convolution, or has other axes or an empty one.
    """
    if len(shapes.get(key, ())) == 4:
        raise InputError(f"{key} has shape {shapes[key]}: this is a 2-D {network}; 3-D ones run")
    return shape_of(shapes, key, 5, network)


def count_numbered(shapes: Shapes, prefix: str) -> int:
    """Count the different numbers that follow `prefix` in the names."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({match[1] for key in shapes if (match := pattern.match(key))})


def one_or_three(extent: Sequence[int]) -> int | list[int]:
    """Return an extent along three axes as one number if they agree, else as a list."""
    return extent[0] if len(set(extent)) == 1 else list(extent)


def ratio_of(larger: int, smaller: int, what: str) -> int:
    """Return `larger` over `smaller`, which must be whole; `what` names it in the error.

    Raises
    ------
    InputError
        The ratio is not whole.
    """
    if larger % smaller:
        raise InputError(f"{what} is {larger}; expected a multiple of {smaller}")
    return larger // smaller


def refuse_contradictions(seen: Mapping[str, Any], given: Mapping[str, Any], network: str) -> None:
    """Refuse given configuration keys that contradict the weights.

    Parameters
    ----------
    seen
        Keys that the weights prove.
    given
        Keys that plans.json or the caller state.
    network
        Name of the network, for the error.

    Raises
    ------
    InputError
        A key has different values in both.
    """
    for key in seen:
        stated = list(given[key]) if isinstance(given.get(key), tuple) else given.get(key)
        if key in given and stated != seen[key]:
            raise InputError(
                f"the plans or settings say {key} {given[key]}, but the weights are of a {network} "
                f"with {key} {seen[key]}; give the plans.json of this training"
            )
