"""Translation of attention over other axes than (batch, heads, tokens, channels).

``torch.onnx`` translates PyTorch's attention of four axes alone. Window attention folds heads into
the batch, and axial attention has more axes before the tokens.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from onnxscript import ir
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

_USUAL_RANK = 4


def translation_table() -> dict[Any, Any]:
    """Return the table that makes ``torch.onnx.export`` take attention of any number of axes."""
    return {torch.ops.aten.scaled_dot_product_attention.default: _translate}


def _translate(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Write attention in standard operators: query (..., L, E), key (..., S, E), value (..., S, F).

    As PyTorch does, scale query and key each by the root.
    """
    rank = len(query.shape)
    if is_causal or enable_gqa or rank == _USUAL_RANK:
        return aten_scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        )
    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    factor = op.Constant(value_float=root)
    turned = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = op.MatMul(op.Mul(query, factor), op.Mul(turned, factor))
    if attn_mask is not None and attn_mask.dtype == ir.DataType.BOOL:
        lowest: Any = op.Constant(value_float=-math.inf)
        zero: Any = op.Constant(value_float=0.0)
        attn_mask = op.Where(attn_mask, zero, lowest)
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)
