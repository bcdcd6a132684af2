"""Weights that a checkpoint holds under several names.

The Taming Mambas networks register every convolution a second time, and the whole encoder
once more under the decoder. One name is enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from segmaformer.runtime.errors import InputError

_OWN_NAMES = {"0": "conv", "1": "norm"}


def drop_aliases(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights without those that repeat another under a second name.

    Raises
    ------
    InputError
        A repetition has other values than the weight it repeats.
    """
    kept = {}
    for key, tensor in weights.items():
        original = original_name(key)
        if original == key or original not in weights:
            kept[key] = tensor
        elif not torch.equal(weights[original], tensor):
            raise InputError(
                f"{key} and {original} are one weight under two names, but the checkpoint gives "
                "them different values; it was edited or is damaged"
            )
    return kept


def original_name(key: str) -> str:
    """Return the name of the weight that `key` repeats, or `key` itself."""
    without_repeated_encoder = re.sub(r"^decoder\.encoder\.", "encoder.", key)
    return re.sub(
        r"\.all_modules\.([01])\.",
        lambda match: f".{_OWN_NAMES[match[1]]}.",
        without_repeated_encoder,
    )
