"""Ops of the op library around the scan; ``kernels/interface/token_ops.h`` defines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.bindings.kernel_structs import MOST_INPUTS, TensorArgs, TokenOpArgs
from segmaformer.runtime.bindings.op_library import op_library

__all__ = ["INPUT_COUNTS", "TokenOpAttributes", "result_shape", "run_token_op"]

INPUT_COUNTS = {
    "Conv3d": 3,
    "ConcatConv3d": 4,
    "ConvTranspose3d": 3,
    "DepthwiseConv3d": 3,
    "InstanceNormGelu": 3,
    "InstanceNormRelu": 3,
    "InstanceNorm": 3,
    "InstanceNormAdd": 4,
    "InstanceNormTokens": 3,
    "UpsampleAdd": 2,
    "Upsample": 1,
    "UpsampleNearest": 1,
    "CausalConv1dSilu": 3,
    "PatchEmbed": 3,
    "RotaryNorm": 5,
    "NormLinear": 5,
    "LinearAdd": 4,
    "FoldedNorm": 3,
    "InstanceNormGeluLinearAdd": 6,
    "InstanceNormReluLinear": 5,
    "LinearUpsampleAdd": 6,
}


@dataclass(frozen=True)
class TokenOpAttributes:
    """Attributes of a node; an op ignores those that it does not have."""

    group: int = 0
    epsilon: float = 1e-5
    alpha: float = 1.0
    scales: tuple[float, ...] = (0.0, 0.0, 0.0)
    strides: tuple[int, ...] = (0, 0, 0)
    pads: tuple[int, ...] = (0, 0)


def result_shape(
    op: str, shapes: Sequence[tuple[int, ...]], attributes: TokenOpAttributes
) -> tuple[int, ...]:
    """Return the shape of the result for inputs of these shapes, which must fit each other."""
    if op == "UpsampleAdd":
        return shapes[1]
    if op in ("Upsample", "UpsampleNearest"):
        batch, channels, *low = shapes[0]
        high = (n * int(s) for n, s in zip(low, attributes.scales, strict=True))
        return (batch, channels, *high)
    if op in ("Conv3d", "ConcatConv3d"):
        strides = (max(1, stride) for stride in attributes.strides)
        rounded_up = (-(-n // s) for n, s in zip(shapes[0][2:], strides, strict=True))
        return (shapes[0][0], shapes[1][0], *rounded_up)
    if op == "ConvTranspose3d":
        enlarged = (n * taps for n, taps in zip(shapes[0][2:], shapes[1][2:], strict=True))
        return (shapes[0][0], shapes[1][1], *enlarged)
    if op == "PatchEmbed":
        (batch, _, *extents), (channels, _, *kernel) = shapes[:2]
        pads = zip(attributes.pads[:3], attributes.pads[3:], strict=True)
        room = (n + sum(pad) - k for n, pad, k in zip(extents, pads, kernel, strict=True))
        steps = (r // s + 1 for r, s in zip(room, attributes.strides, strict=True))
        return (batch, *steps, channels)
    if op == "FoldedNorm":
        return (*shapes[0][:-1], shapes[0][-1] + 1)
    if "Linear" in op:
        return (*shapes[0][:-1], shapes[1][1])
    return shapes[0]


def run_token_op(
    op: str,
    inputs: Sequence[np.ndarray],
    attributes: TokenOpAttributes,
    out: np.ndarray,
    *,
    threads: int = 0,
    isa: str | None = None,
) -> None:
    """Run one op.

    Parameters
    ----------
    op
        One of :data:`INPUT_COUNTS`.
    inputs
        Inputs of the op, float32 and C-contiguous.
    attributes
        Attributes of the op.
    out
        Memory for the result, of :func:`result_shape`, float32 and C-contiguous. It overlaps no
        input, but may be x itself for ``InstanceNorm*``, y itself for ``UpsampleAdd`` and rest
        itself for ``LinearAdd`` and ``InstanceNormGeluLinearAdd``.
    threads
        Number of threads; 0 uses every available processor.
    isa
        One of :func:`~segmaformer.runtime.bindings.op_library.cpu_isas`; None uses the first.

    Raises
    ------
    ValueError
        A type, shape or attribute does not fit.
    """
    for array in (*inputs, out):
        if array.dtype != np.float32 or not array.flags.c_contiguous or array.ndim > 5:
            raise ValueError(
                f"{op} takes C-contiguous float32 arrays of at most 5 dimensions; found "
                f"{array.dtype} {array.shape}, strides {array.strides}"
            )
    args = TokenOpArgs(
        op=op.encode(),
        input_count=len(inputs),
        inputs=tuple(_tensor(array) for array in inputs[:MOST_INPUTS]),
        group=attributes.group,
        epsilon=attributes.epsilon,
        alpha=attributes.alpha,
        scales=attributes.scales,
        strides=attributes.strides,
        pads=attributes.pads,
        y=_tensor(out),
    )
    error = op_library().sgmf_token_op(args, threads, None if isa is None else isa.encode())
    if error:
        raise ValueError(error.decode())


def _tensor(array: np.ndarray) -> TensorArgs:
    # Takes a quarter of array.ctypes.data's time.
    return TensorArgs(array.__array_interface__["data"][0], array.ndim, array.shape)
