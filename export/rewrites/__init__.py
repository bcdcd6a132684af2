"""Exact graph rewrites: fewer operations or bytes, the same function up to rounding."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from segmaformer.export.rewrites.decoder_fold import fold_decoder
from segmaformer.export.rewrites.repeated_constants import store_repeats_once

__all__ = ["apply_rewrites"]


def apply_rewrites(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Rewrite a float32 model.

    Parameters
    ----------
    model
        A checked model from :func:`segmaformer.export.onnx_export.export_onnx`.

    Returns
    -------
    model, counts
        The rewritten model and how often each rewrite applied.
    """
    graph_model = ir.from_proto(model)
    counts = {
        "decoder_fold": fold_decoder(graph_model.graph),
        "repeated_constants": store_repeats_once(graph_model.graph),
    }
    common.RemoveUnusedNodesPass()(graph_model)
    rewritten = ir.to_proto(graph_model)
    onnx.checker.check_model(rewritten)
    return rewritten, counts
