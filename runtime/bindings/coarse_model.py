"""Removal of the upsampling at the end of a network.

Logits that a network enlarges by whole factors at its end are many times the size of those it
computed. The native pipeline enlarges them itself, plane by plane when they are used, so that those
of a whole tile are never in memory.
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
    """Network that gives its logits before their last upsampling.

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
    """Remove the op ``Upsample`` at the end of `model`; None if it does not end so.

    Raises
    ------
    MemoryError
        There is not enough memory for a copy.
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
    """Enlarge logits (B, K, D, H, W), float32, to those of the whole network."""
    attributes = TokenOpAttributes(scales=tuple(float(scale) for scale in scales))
    result = np.empty(result_shape("Upsample", [logits.shape], attributes), np.float32)
    run_token_op("Upsample", [logits], attributes, result, threads=threads)
    return result
