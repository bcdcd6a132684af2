"""Inference of a SegMaFormer's configuration from the names and shapes of its weights.

Shapes show almost everything. Attention heads, strides, paddings and the rotary position code
leave no trace; they follow the authors' published configurations, and a sentence states every
such choice. The schedule of block types is read from the weights, never from the trainer's
name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segmaformer.checkpoint.shapes import (
    Shape,
    Shapes,
    count_numbered,
    one_or_three,
    ratio_of,
    refuse_contradictions,
    shape_of,
)
from segmaformer.models import model_config
from segmaformer.models.pyramids.segmaformer import STAGES
from segmaformer.runtime.errors import InputError

_PUBLISHED_HEADS = {
    (36, 66, 96, 192): [1, 2, 4, 6],
    (48, 66, 96, 192): [2, 2, 4, 6],
    (32, 64, 160, 256): [1, 2, 5, 8],
}
_SIZES = ("in_channels", "num_classes", "embed_dims", "depths", "decoder_head_embedding_dim")
_STRIDE_OF_KERNEL = {1: 1, 3: 2, 7: 4}
_PADDING_OF_KERNEL = {1: 0, 3: 1, 7: 3}
_TRAINER_WITHOUT_ROPE = "SegMaFormerTrainer_BRATS_SegMaFormer"


def segmaformer_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration; see :class:`segmaformer.checkpoint.recognition.InferConfig`.

    Raises
    ------
    InputError
        A weight is missing, a kernel is none of the published ones, or `given` contradicts
        the weights.
    """
    given = dict(given or {})
    seen = _from_shapes(shapes)
    refuse_contradictions({size: seen[size] for size in _SIZES}, given, "SegMaFormer")
    config = {**model_config("segmaformer"), **seen, **given}
    assumptions = []
    for key, rule in _RULES.items():
        if key not in given:
            config[key], sentence = rule(config, trainer)
            assumptions += [sentence] if sentence else []
    return config, tuple(assumptions)


def _from_shapes(shapes: Shapes) -> dict[str, Any]:
    embeddings = [
        _shape(shapes, f"encoder.embed_{stage}.proj.weight", 5) for stage in range(1, STAGES + 1)
    ]
    stages = [_stage(shapes, stage, embeddings[stage - 1][0]) for stage in range(1, STAGES + 1)]
    return {
        "in_channels": embeddings[0][1],
        "num_classes": _shape(shapes, "decoder.pred.weight", 5)[0],
        "embed_dims": [shape[0] for shape in embeddings],
        "patch_kernel_size": [one_or_three(shape[2:]) for shape in embeddings],
        "decoder_head_embedding_dim": _shape(shapes, "decoder.linears.0.proj.weight", 2)[0],
        "use_gate": _use_gate(shapes, stages),
        **{key: [stage[key] for stage in stages] for key in stages[0]},
    }


def _stage(shapes: Shapes, stage: int, channels: int) -> dict[str, Any]:
    """Read the entries of one stage (counted from 1) from its first block."""
    block = f"encoder.stage{stage}.0"
    defaults = model_config("segmaformer")
    kind = _block_type(shapes, block)
    entries = {
        "depths": count_numbered(shapes, f"encoder.stage{stage}."),
        "mlp_ratios": _mlp_ratio(_shape(shapes, f"{block}.mlp.fc1.weight", 2)[0], channels),
        "stage_block_types": kind,
        "sr_ratios": _reduction(shapes, block),
        **{key: defaults[key][stage - 1] for key in ("d_state", "d_conv", "expand")},
    }
    if kind not in ("attention", "conv"):
        mixer = f"{block}.mamba.block"
        entries["d_state"] = _shape(shapes, f"{mixer}.A_log", 2)[1]
        entries["d_conv"] = _shape(shapes, f"{mixer}.conv1d.weight", 3)[2]
        rows = _shape(shapes, f"{mixer}.in_proj.weight", 2)[0]
        entries["expand"] = ratio_of(rows, 2 * channels, f"{mixer}.in_proj.weight's height")
    return entries


def _shape(shapes: Shapes, key: str, rank: int) -> Shape:
    return shape_of(shapes, key, rank, "SegMaFormer")


def _block_type(shapes: Shapes, block: str) -> str:
    if f"{block}.attn.query.weight" in shapes:
        return "attention"
    scans = f"{block}.mamba.block.A_log" in shapes
    convolves = f"{block}.conv_branch.dw.weight" in shapes
    if not scans and not convolves:
        raise InputError(
            f"{block} has none of attn.query.weight, mamba.block.A_log and conv_branch.dw.weight; "
            "expected an attention, Mamba, convolution or hybrid block"
        )
    kind = "hybrid" if scans and convolves else "mamba" if scans else "conv"
    return f"{kind}_prereduce" if scans and f"{block}.prereduce.weight" in shapes else kind


def _reduction(shapes: Shapes, block: str) -> int:
    """Return the sequence reduction ratio: the kernel of a convolution, or 1 without it."""
    for key in (f"{block}.attn.sr.weight", f"{block}.prereduce.weight"):
        if key in shapes:
            return _shape(shapes, key, 5)[2]
    return 1


def _mlp_ratio(hidden: int, channels: int) -> int | float:
    """Return the smallest ratio that gives `hidden`; the network computes int(channels * ratio)."""
    if hidden % channels == 0:
        return hidden // channels
    ratio = hidden / channels
    return ratio if int(channels * ratio) == hidden else math.nextafter(ratio, math.inf)


def _use_gate(shapes: Shapes, stages: Sequence[Mapping[str, Any]]) -> bool:
    hybrid = [
        number
        for number, stage in enumerate(stages, start=1)
        if stage["stage_block_types"].startswith("hybrid")
    ]
    return not hybrid or f"encoder.stage{hybrid[0]}.0.gate.0.weight" in shapes


def _num_heads(config: Mapping[str, Any], trainer: str | None) -> tuple[list[int], str | None]:
    widths = tuple(config["embed_dims"])
    heads = _PUBLISHED_HEADS.get(widths) or model_config("segmaformer")["num_heads"]
    stages = [s for s, kind in enumerate(config["stage_block_types"]) if kind == "attention"]
    if not stages:
        return heads, None
    for stage in stages:
        if widths[stage] % heads[stage]:
            raise InputError(
                f"the weights do not show the attention heads of stage {stage + 1}, and the "
                f"published {heads[stage]} do not divide its {widths[stage]} channels; state all "
                "stages' heads, such as num_heads=[1,2,4,5]"
            )
    chosen = ", ".join(f"{heads[stage]} in stage {stage + 1}" for stage in stages)
    source = (
        f"published for embed_dims {list(widths)}"
        if widths in _PUBLISHED_HEADS
        else f"the published default, though not for embed_dims {list(widths)}"
    )
    return heads, f"Attention heads (num_heads): {chosen}; {source}."


def _from_kernel(key: str, of_kernel: Mapping[int, int]) -> Any:
    """Make the rule that derives configuration `key` from the kernel, axis by axis."""

    def rule(config: Mapping[str, Any], trainer: str | None) -> tuple[list[Any], str]:
        kernels = config["patch_kernel_size"]
        values = []
        for kernel in kernels:
            extent = [kernel] * 3 if isinstance(kernel, int) else kernel
            unknown = sorted(set(extent) - set(of_kernel))
            if unknown:
                raise InputError(
                    f"patch embedding kernel {kernel} is not a published one (1, 3 or 7 along an "
                    f"axis), so its {key} is unknown; give patch_stride and patch_padding"
                )
            values.append(one_or_three([of_kernel[k] for k in extent]))
        return values, f"{key} {values}: as published for kernels {kernels}."

    return rule


def _use_rope(config: Mapping[str, Any], trainer: str | None) -> tuple[bool, str]:
    if trainer is None:
        return True, "Rotary positions on (use_rope): as published; the file names no trainer."
    off = "RoPEOff" in trainer or trainer == _TRAINER_WITHOUT_ROPE
    state = "off" if off else "on"
    return not off, f"Rotary positions {state} (use_rope): as the trainer's name {trainer} implies."


def _rope_theta(config: Mapping[str, Any], trainer: str | None) -> tuple[float, str | None]:
    theta: float = config["rope_theta"]
    sentence = f"Base of the rotary frequencies (rope_theta): {theta:g}, as published."
    return theta, sentence if config["use_rope"] else None


_Rule = Callable[[Mapping[str, Any], str | None], tuple[Any, str | None]]
_RULES: dict[str, _Rule] = {
    "num_heads": _num_heads,
    "patch_stride": _from_kernel("patch_stride", _STRIDE_OF_KERNEL),
    "patch_padding": _from_kernel("patch_padding", _PADDING_OF_KERNEL),
    "use_rope": _use_rope,
    "rope_theta": _rope_theta,
}
"""Rules for keys that no weight shows; later rules may read the results of earlier ones."""
