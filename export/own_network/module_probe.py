"""Properties that a module must have to be exported, tried out on small inputs of its real size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from segmaformer.export.own_network.surroundings import Surroundings
from segmaformer.runtime.errors import InputError

SAME = 1e-4
"""Bound on the difference over the range of logits of a tile alone and in a batch: kernels may
sum in another order for another batch."""


class FirstOutput(nn.Module):
    """The finest logits of a network that may give several, in its :class:`Surroundings`.

    Parameters
    ----------
    module
        The network.
    outputs
        Channels of its logits.
    """

    def __init__(self, module: nn.Module, outputs: int):
        super().__init__()
        self.module, self.outputs = module, outputs
        self.surroundings = Surroundings()

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> logits (B, K, D, H, W), float32 where `volume` is.

        Raises
        ------
        InputError
            No result has that shape.
        """
        with self.surroundings.entered():
            found = list(_tensors(self.module(volume)))
        expected = (volume.shape[0], self.outputs, *volume.shape[2:])
        for tensor in found:
            if tuple(tensor.shape) == expected:
                return tensor.to(volume.dtype)
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found) or "no tensor"
        raise InputError(
            f"the module gives {shapes} for an input of {tuple(volume.shape)}; expected "
            f"{expected}: a channel for each output at the input's size. Check the number of "
            "labels, the patch size, and that the module returns logits, not labels"
        )


def _tensors(result: Any) -> Any:
    """Tensors of a result in order, however they are nested."""
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, Sequence) and not isinstance(result, str):
        for value in result:
            yield from _tensors(value)


def probe_module(wrapped: FirstOutput, shape: tuple[int, int, int, int]) -> None:
    """Refuse a module whose logits do not depend on the tile alone.

    Parameters
    ----------
    wrapped
        The module, in evaluation mode, float32, on the CPU.
    shape
        Channels, depth, height and width of a tile.

    Raises
    ------
    InputError
        It fails, gives another size or probabilities, changes its input, or gives different logits
        twice, in a batch, or where it is told that there is CUDA.
    """
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn(1, *shape, generator=generator)
    first = _run(wrapped, tile)
    _refuse_other_values(first)
    if wrapped.surroundings.asked_for_cuda:
        _refuse_other_logits_with_cuda(wrapped, tile, first)
    try:
        beside = _run(wrapped, torch.cat((tile, torch.full_like(tile, -0.5))))[:1]
    except InputError:  # it takes one tile at a time, and so is exported
        beside = None
    if beside is not None and torch.equal(first, beside):
        return  # to the last bit: neither another tile nor an earlier run changes anything
    _refuse_unless(
        torch.equal(first, _run(wrapped, tile)),
        "gives other logits for the same tile the second time: it is random, or keeps a state. "
        "Remove dropout that acts in evaluation mode, as F.dropout does unless it is given "
        "training=self.training, and what remembers earlier inputs",
    )
    if beside is None:
        return
    difference = _over_range(beside, first)
    _refuse_unless(
        difference <= SAME,
        f"mixes the tiles of a batch: logits of a tile alone and beside another differ by "
        f"{difference:.1e} of their range. Norms must not take statistics of the batch",
    )


def _refuse_other_values(logits: torch.Tensor) -> None:
    low, high = (float(value) for value in logits.aminmax())
    _refuse_unless(
        bool(logits.isfinite().all()),
        "gives logits that are NaN or infinite for an input of noise; check its weights",
    )
    _refuse_unless(
        not 0 <= low < high <= 1,
        f"gives values from {low:.3g} to {high:.3g} for an input of noise, as probabilities are; "
        "expected logits. Return what goes into its softmax or sigmoid",
    )


def _refuse_other_logits_with_cuda(
    wrapped: FirstOutput, tile: torch.Tensor, logits: torch.Tensor
) -> None:
    """Run once more with the answer that there is CUDA, which the CPU then stands for."""
    wrapped.surroundings.cuda_available = True
    try:
        told = _run(wrapped, tile)
    except InputError:  # it does what the CPU cannot stand for, and nothing is known of the result
        return
    finally:
        wrapped.surroundings.cuda_available = False
    difference = _over_range(told, logits)
    _refuse_unless(
        difference <= SAME,
        "computes something else where torch.cuda.is_available(): its logits differ by "
        f"{difference:.1e} of their range. Let it compute the same on every device",
    )


def _over_range(found: torch.Tensor, expected: torch.Tensor) -> float:
    extent = (expected.max() - expected.min()).clamp(min=1e-30)
    return float((found - expected).abs().max() / extent)


def _run(wrapped: FirstOutput, tile: torch.Tensor) -> torch.Tensor:
    before = tile.clone()
    try:
        with torch.inference_mode():
            logits: torch.Tensor = wrapped(tile)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # of the user's code, which may raise anything
        raise InputError(
            f"the module fails on a tile of shape {tuple(tile.shape)} on the CPU: "
            f"{wrapped.surroundings.explain(error)}"
        ) from error
    _refuse_unless(
        torch.equal(before, tile), "changes its input, which others read again; let it copy first"
    )
    return logits.clone()


def _refuse_unless(holds: bool, complaint: str) -> None:
    if not holds:
        raise InputError(f"the module {complaint}")
