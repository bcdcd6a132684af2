"""Inference of a Taming Mambas network's configuration from its weights and nnU-Net's plans.

The weights show everything but the first stride. Plans state the same in one of two formats: as
nnU-Net wrote them until version 2.3, and with an ``architecture`` since. Facts that both state
must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from segmaformer.checkpoint.fields import mapping, number, sequence
from segmaformer.checkpoint.networks.nnunet_config import FIRST_STRIDE, unet_keys_of_plan
from segmaformer.checkpoint.shapes import (
    Shapes,
    count_numbered,
    ratio_of,
    refuse_contradictions,
    shape_of,
)
from segmaformer.models import model_config
from segmaformer.runtime.errors import InputError

_NETWORK = "Taming Mambas network"
_BLOCKS: Final = {"norm_op": "InstanceNorm3d", "nonlin": "LeakyReLU"}
_BLOCK_OPTIONS: Final = {"norm_op_kwargs.eps": 1e-5, "nonlin_kwargs.negative_slope": 0.01}


def taming_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration; see :class:`segmaformer.checkpoint.recognition.InferConfig`.

    Raises
    ------
    InputError
        A weight is missing, or `given` contradicts the weights.
    """
    given = dict(given or {})
    seen = _from_shapes(shapes)
    strides = sequence(given.get("strides", []), "strides")
    first = strides[0] if strides else [1, 1, 1]
    seen["strides"] = [first, *_strides(shapes, len(seen["features_per_stage"]))]
    refuse_contradictions(seen, given, _NETWORK)
    config = {**model_config("taming-segmamba"), **given, **seen}
    return config, () if "strides" in given else (FIRST_STRIDE.format(first),)


def _from_shapes(shapes: Shapes) -> dict[str, Any]:
    stages = range(count_numbered(shapes, "encoder.stages."))
    levels = range(len(stages) - 1)
    kernels = [_conv(shapes, f"encoder.stages.{stage}.blocks.0.conv1") for stage in stages]
    widths = [kernel[0] for kernel in kernels]
    stem = _conv(shapes, "encoder.stem.convs.0")
    mixer = _first_mixer(shapes)
    rows = shape_of(shapes, f"{mixer}in_proj.weight", 2, _NETWORK)[0]
    return {
        "input_channels": stem[1],
        "num_classes": shape_of(shapes, "decoder.seg_layers.0.weight", 5, _NETWORK)[0],
        "features_per_stage": widths,
        "kernel_sizes": [list(kernel[2:]) for kernel in kernels],
        "n_conv_per_stage_encoder": [
            count_numbered(shapes, f"encoder.stages.{stage}.blocks.") for stage in stages
        ],
        "n_conv_per_stage_decoder": [
            count_numbered(shapes, f"decoder.stages.{level}.blocks.") for level in levels
        ],
        "conv_bias": "encoder.stem.convs.0.conv.bias" in shapes,
        "d_state_rule": f"min(channels, {_state_limit(shapes, len(stages), widths)})",
        "d_conv": shape_of(shapes, f"{mixer}conv1d.weight", 3, _NETWORK)[2],
        "expand": ratio_of(rows, 2 * widths[0], f"{mixer}in_proj.weight's height"),
    }


def _conv(shapes: Shapes, block: str) -> tuple[int, ...]:
    return shape_of(shapes, f"{block}.conv.weight", 5, _NETWORK)


def _strides(shapes: Shapes, stages: int) -> list[list[int]]:
    """Read the strides of the second to the last stage from transposed convolutions."""
    kernels = [
        shape_of(shapes, f"decoder.transpconvs.{level}.weight", 5, _NETWORK)
        for level in range(stages - 1)
    ]
    return [list(kernel[2:]) for kernel in reversed(kernels)]


def _first_mixer(shapes: Shapes, stage: int = 0) -> str:
    prefix = f"encoder.mamba_layers.{stage}."
    for middle in ("mamba.mamba.", "mamba.fwd_mamba.mamba.", "mambas.0.fwd_mamba.mamba."):
        if f"{prefix}{middle}A_log" in shapes:
            return prefix + middle
    return f"{prefix}mamba.mamba."


def _state_limit(shapes: Shapes, stages: int, widths: list[int]) -> int:
    """Return the state size if it is below the channel count, else the published limit."""
    states = [
        shape_of(shapes, f"{_first_mixer(shapes, stage)}A_log", 2, _NETWORK)[1]
        for stage in range(stages)
    ]
    limited = [n for n, width in zip(states, widths, strict=True) if n < width]
    return limited[0] if limited else max(256, *states)


def taming_keys_of_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read the configuration keys that one configuration of plans.json states, in either format.

    Parameters
    ----------
    plan
        Result of :func:`segmaformer.checkpoint.training.plans.resolve_configuration`.

    Raises
    ------
    InputError
        A malformed entry, or blocks of another kind than these networks have.
    """
    architecture = plan.get("architecture")
    if architecture is not None:
        where = "plans.json: architecture"
        _check_blocks(mapping(mapping(architecture, where).get("arch_kwargs"), where), where)
    return unet_keys_of_plan(plan)


def _check_blocks(source: Mapping[str, Any], where: str) -> None:
    """Refuse norms and activations that the network does not have; weights do not show them."""
    for key, known in _BLOCKS.items():
        name = str(source.get(key, known)).rpartition(".")[2]
        if name != known:
            raise InputError(f"{where}: {key} is {name}; a {_NETWORK} has {known}")
    for key, expected in _BLOCK_OPTIONS.items():
        options, option = key.split(".")
        value = mapping(source.get(options) or {}, f"{where}: {options}").get(option, expected)
        if number(value, f"{where}: {key}") != expected:
            raise InputError(f"{where}: {key} is {value}; a {_NETWORK} has {expected:g}")
