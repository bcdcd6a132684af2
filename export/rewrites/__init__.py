"""Exact graph rewrites: fewer operations or bytes, the same function up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from segmaformer.export.model_check import check_model
from segmaformer.export.rewrites.constant_slices import cut_constants
from segmaformer.export.rewrites.decoder_fold import fold_decoder
from segmaformer.export.rewrites.gelu import halve_gelu_last
from segmaformer.export.rewrites.instance_norm import sum_norms_accurately
from segmaformer.export.rewrites.linear_fold import fold_products
from segmaformer.export.rewrites.norm_fold import fold_norms
from segmaformer.export.rewrites.patch_embedding import embed_patches_natively
from segmaformer.export.rewrites.repeated_constants import store_repeats_once
from segmaformer.export.rewrites.residual_norm import add_residuals_to_norms
from segmaformer.export.rewrites.rotary_norm import rotate_natively
from segmaformer.export.rewrites.token_major import flow_token_major
from segmaformer.export.rewrites.token_products import multiply_tokens_natively
from segmaformer.export.rewrites.transposed_convolution import enlarge_natively
from segmaformer.export.rewrites.upsampling import upsample_natively
from segmaformer.export.rewrites.volume_convolution import convolve_natively
from segmaformer.export.token_ops import add_token_functions

__all__ = ["apply_rewrites", "rewrite_for_cpu", "rewrite_norms"]

Rewrite = Callable[[ir.Graph], int]


def apply_rewrites(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Rewrite a float32 model in standard operators, for every device.

    Parameters
    ----------
    model
        A checked model from :func:`segmaformer.export.onnx_export.export_onnx`.

    Returns
    -------
    model, counts
        The rewritten model, and how often each rewrite applied.
    """
    rewritten, counts = _apply(
        model,
        {
            "constant_slices": cut_constants,
            "decoder_fold": fold_decoder,
            "repeated_constants": store_repeats_once,
        },
    )
    check_model(rewritten)
    return rewritten, counts


def rewrite_norms(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Rewrite only a float32 model's norms, with an op that sums accurately on every device.

    :func:`rewrite_for_cpu` includes this.

    Parameters
    ----------
    model
        Model from :func:`apply_rewrites`.

    Returns
    -------
    model, counts
        The rewritten model, with the op's function body, and how often each rewrite applied.
    """
    return _apply_with_ops(model, {"instance_norm": sum_norms_accurately})


def rewrite_for_cpu(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Rewrite a float32 model further, with ops that have kernels for the CPU.

    Their function bodies are in the model, so that it runs anywhere.

    Parameters
    ----------
    model
        Model from :func:`apply_rewrites`.

    Returns
    -------
    model, counts
        The rewritten model, and how often each rewrite applied.
    """
    return _apply_with_ops(
        model,
        {
            "patch_embedding": embed_patches_natively,  # the next rewrite removes its transposes
            "token_major": flow_token_major,
            "instance_norm": sum_norms_accurately,
            "residual_norm": add_residuals_to_norms,
            "upsampling": upsample_natively,
            "linear_fold": fold_products,
            "norm_fold": fold_norms,
            "rotary_norm": rotate_natively,
            "token_products": multiply_tokens_natively,
            "gelu": halve_gelu_last,  # those that no other op took
            "transposed_convolution": enlarge_natively,
            "volume_convolution": convolve_natively,  # last: others match standard convolutions
        },
    )


def _apply_with_ops(
    model: onnx.ModelProto, rewrites: Mapping[str, Rewrite]
) -> tuple[onnx.ModelProto, dict[str, int]]:
    rewritten, counts = _apply(model, rewrites)
    add_token_functions(rewritten)
    check_model(rewritten)
    return rewritten, counts


def _apply(
    model: onnx.ModelProto, rewrites: Mapping[str, Rewrite]
) -> tuple[onnx.ModelProto, dict[str, int]]:
    graph_model = ir.from_proto(model)
    counts = dict[str, int]()
    common.ShapeInferencePass()(graph_model)
    for name, rewrite in rewrites.items():
        counts[name] = rewrite(graph_model.graph)
        # Unused nodes of a rewrite would count as readers in the next one.
        common.RemoveUnusedNodesPass()(graph_model)
    return ir.to_proto(graph_model), counts
