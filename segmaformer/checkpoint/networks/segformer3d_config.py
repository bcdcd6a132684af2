"""Inference of a SegFormer3D's configuration from the names and shapes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segmaformer.checkpoint.shapes import (
    Shapes,
    count_numbered,
    one_or_three,
    ratio_of,
    refuse_contradictions,
    shape_of,
)
from segmaformer.models import model_config
from segmaformer.models.pyramids.segformer3d import STAGES
from segmaformer.runtime.errors import InputError

_NETWORK = "SegFormer3D"
_SIZES = ("in_channels", "num_classes", "embed_dims", "depths", "decoder_head_embedding_dim")
_STRIDE_OF_KERNEL = {3: 2, 7: 4}
_PADDING_OF_KERNEL = {3: 1, 7: 3}


def segformer3d_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration; see :class:`segmaformer.checkpoint.recognition.InferConfig`.

    Raises
    ------
    InputError
        A weight is missing, a kernel is none of the published ones, the published attention
        heads do not suit the widths, or `given` contradicts the weights.
    """
    given = dict(given or {})
    seen = _from_shapes(shapes)
    refuse_contradictions({size: seen[size] for size in _SIZES}, given, _NETWORK)
    config = {**model_config("segformer3d"), **seen, **given}
    assumptions = []
    for key, of_kernel in (
        ("patch_stride", _STRIDE_OF_KERNEL),
        ("patch_padding", _PADDING_OF_KERNEL),
    ):
        if key not in given:
            config[key] = [_of_kernel(kernel, of_kernel) for kernel in config["patch_kernel_size"]]
            assumptions.append(f"{key} {config[key]}: as published for these kernels.")
    if "num_heads" not in given:
        assumptions.append(_check_heads(config))
    return config, tuple(assumptions)


def _from_shapes(shapes: Shapes) -> dict[str, Any]:
    embeddings = [
        shape_of(shapes, f"segformer_encoder.embed_{stage}.patch_embeddings.weight", 5, _NETWORK)
        for stage in range(1, STAGES + 1)
    ]
    widths = [shape[0] for shape in embeddings]
    blocks = [f"segformer_encoder.tf_block{stage}." for stage in range(1, STAGES + 1)]
    return {
        "in_channels": embeddings[0][1],
        "num_classes": _decoder(shapes, "linear_pred.weight", 5)[0],
        "embed_dims": widths,
        "depths": [count_numbered(shapes, block) for block in blocks],
        "mlp_ratios": [
            ratio_of(_hidden(shapes, block), width, f"{block}0.mlp.fc1.weight's height")
            for block, width in zip(blocks, widths, strict=True)
        ],
        "sr_ratios": [_reduction(shapes, f"{block}0.attention.sr.weight") for block in blocks],
        "patch_kernel_size": [one_or_three(shape[2:]) for shape in embeddings],
        "decoder_head_embedding_dim": _decoder(shapes, "linear_c1.proj.weight", 2)[0],
    }


def _decoder(shapes: Shapes, name: str, rank: int) -> tuple[int, ...]:
    return shape_of(shapes, f"segformer_decoder.{name}", rank, _NETWORK)


def _hidden(shapes: Shapes, block: str) -> int:
    return shape_of(shapes, f"{block}0.mlp.fc1.weight", 2, _NETWORK)[0]


def _reduction(shapes: Shapes, key: str) -> int:
    """Return the sequence reduction: the kernel of a convolution, or 1 without it."""
    return shape_of(shapes, key, 5, _NETWORK)[2] if key in shapes else 1


def _of_kernel(kernel: object, of_kernel: Mapping[int, int]) -> int:
    # A kernel that differs between the axes is a list, which is none of the published ones.
    if not isinstance(kernel, int) or kernel not in of_kernel:
        raise InputError(
            f"patch embedding kernel {kernel} is not a published one (3 or 7), so its stride and "
            "padding are unknown; give patch_stride and patch_padding"
        )
    return of_kernel[kernel]


def _check_heads(config: Mapping[str, Any]) -> str:
    widths, heads = config["embed_dims"], config["num_heads"]
    if any(width % count for width, count in zip(widths, heads, strict=True)):
        raise InputError(
            f"the weights do not show the attention heads, and the published {heads} do not divide "
            f"the widths {widths}; state num_heads"
        )
    return f"Attention heads (num_heads): {heads}, as published."
