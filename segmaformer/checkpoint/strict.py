"""Strict loading of weights: a network takes exactly its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from segmaformer.checkpoint.fields import listing
from segmaformer.runtime.errors import InputError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_names_and_shapes(
    expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> None:
    """Refuse weights that are not those of the network.

    Parameters
    ----------
    expected
        State dict of the network; its values may lie on the meta device.
    weights
        Weights of the checkpoint.

    Raises
    ------
    InputError
        Names are missing or surplus, or shapes differ; up to ten of each are listed.
    """
    missing = [key for key in expected if key not in weights]
    surplus = [key for key in weights if key not in expected]
    misshapen = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    complaints = (("it lacks", missing), ("it also has", surplus), ("wrong shapes:", misshapen))
    found = [f"{text} {listing(keys)}" for text, keys in complaints if keys]
    advice = (
        ". If these belong to the training alone, such as a loss, save the weights without them"
        if surplus and len(found) == 1
        else ""
    )
    if found:
        raise InputError(f"the checkpoint does not fit the network: {'; '.join(found)}{advice}")


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a network, converted to its types.

    Parameters
    ----------
    model
        Network with exactly these names and shapes.
    weights
        Weights of 16 to 64 bits of floating point where the network's are; 16 bits are widened.

    Raises
    ------
    InputError
        A weight is not floating-point where the network's is, has 8 bits, whose scales are
        elsewhere, or is not finite.
    """
    converted = {}
    for key, tensor in model.state_dict().items():
        value = weights[key]
        is_float = tensor.is_floating_point()
        if value.dtype not in _FLOATS if is_float else value.is_floating_point():
            raise InputError(f"{key} is stored as {value.dtype}; expected {tensor.dtype}")
        converted[key] = value.to(tensor.dtype)
        if not converted[key].isfinite().all():
            raise InputError(f"{key} holds NaN or infinite values; the training has diverged")
    model.load_state_dict(converted, strict=True)
