"""Networks that end with an upsampling of their logits, without it.

Logits that a network makes larger by whole factors at its very end are many times what it
computed. The native pipeline makes them larger itself, plane by plane where they are used, so
that those of a whole tile are never in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.bindings.structs import triple
from segmaformer.runtime.bindings.token_ops import TokenOpAttributes, result_shape, run_token_op
from segmaformer.runtime.spec import Triple


@dataclass(frozen=True)
class CoarseModel:
    """A network that gives its logits before their last upsampling.

    Attributes
    ----------
    model
        Serialised ONNX model.
    scales
        Whole factors from its logits to those of the whole network, along (D, H, W).
    """

    model: bytes
    scales: Triple


def without_last_upsampling(model: bytes) -> CoarseModel | None:
    """`model` without the op ``Upsample`` at its end; None if it does not end so.

    Raises
    ------
    MemoryError
        There is too little for a copy.
    """
    scales = np.zeros(3, np.int64)
    shorten = op_library().sgmf_without_last_upsampling
    size = shorten(model, len(model), None, scales)
    if size == 0:
        return None
    if size < 0:
        raise MemoryError(f"a model of {len(model)} bytes cannot be copied")
    shorter = np.empty(len(model), np.uint8)
    if shorten(model, len(model), shorter.ctypes.data, scales) != size:
        raise MemoryError(f"a model of {len(model)} bytes cannot be copied")
    return CoarseModel(shorter[:size].tobytes(), triple(scales))


def enlarged(logits: np.ndarray, scales: Triple, threads: int) -> np.ndarray:
    """Logits (B, K, D, H, W) of a whole network, float32, from those before its upsampling."""
    attributes = TokenOpAttributes(scales=tuple(float(scale) for scale in scales))
    result = np.empty(result_shape("Upsample", [logits.shape], attributes), np.float32)
    run_token_op("Upsample", [logits], attributes, result, threads=threads)
    return result
