"""The configuration of nnU-Net's own networks from their weights and plans.

The weights show everything but the first stride, the activation and the norm's epsilon. Plans
describe the U-Net in one of two formats: as nnU-Net wrote them until version 2.3, and with an
``architecture`` since. What both tell must agree. No name in a plan is ever imported: it is
looked up in a fixed table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from segmaformer.checkpoint.fields import integer, integers, mapping, number, sequence
from segmaformer.checkpoint.shapes import (
    Shapes,
    conv_shape,
    count_numbered,
    refuse_contradictions,
)
from segmaformer.models import model_config
from segmaformer.runtime.errors import InputError

_NAMES_IN_ARCHITECTURE: Final = {
    "features_per_stage": "features_per_stage",
    "kernel_sizes": "kernel_sizes",
    "strides": "strides",
    "n_conv_per_stage": "n_conv_per_stage_encoder",
    "n_blocks_per_stage": "n_conv_per_stage_encoder",
    "n_conv_per_stage_decoder": "n_conv_per_stage_decoder",
    "conv_bias": "conv_bias",
}
_NAMES_BEFORE: Final = {
    "conv_kernel_sizes": "kernel_sizes",
    "pool_op_kernel_sizes": "strides",
    "n_conv_per_stage_encoder": "n_conv_per_stage_encoder",
    "n_conv_per_stage_decoder": "n_conv_per_stage_decoder",
}
_NORMS: Final = {
    "InstanceNorm3d": "instance",
    "BatchNorm3d": "batch",
    "InstanceNorm2d": "instance",
    "BatchNorm2d": "batch",
}
_ACTIVATIONS: Final = ("LeakyReLU", "ReLU")
_OTHER_BLOCKS: Final = {
    "nonlin_first": False,
    "squeeze_excitation": False,
    "bottleneck_channels": None,
    "stem_channels": None,
}
"""Arguments of nnU-Net's networks that make others of them than are built here."""
_MOST_FEATURES: Final = 320
"""Number that nnU-Net's planner takes for 3-D networks."""
FIRST_STRIDE: Final = "Stride of the first stage: {}, as in all plans of nnU-Net; none were found."
_ACTIVATION: Final = (
    "Activation: leaky ReLU with slope 0.01, and 1e-5 added to variances, as in all plans of "
    "nnU-Net; none were found."
)


def plain_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration of the plain U-Net.

    Parameters and results are those of
    :class:`segmaformer.checkpoint.recognition.InferConfig`.

    Raises
    ------
    InputError
        A weight is missing, the network is 2-D, or `given` contradicts the weights.
    """
    return _config(shapes, "nnunet-plain", "encoder.stages.{}.0.convs.", "", given or {})


def resenc_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration of the residual encoder U-Net, as :func:`plain_config`."""
    return _config(shapes, "nnunet-resenc", "encoder.stages.{}.blocks.", "conv1.", given or {})


def _config(
    shapes: Shapes, name: str, blocks: str, first: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    network = "U-Net of nnU-Net"
    stages = range(count_numbered(shapes, "encoder.stages."))
    kernels = [
        conv_shape(shapes, f"{blocks.format(stage)}0.{first}conv.weight", network)
        for stage in stages
    ]
    entry = "encoder.stem.convs.0" if first else f"{blocks.format(0)}0"
    ups = [
        conv_shape(shapes, f"decoder.transpconvs.{level}.weight", network) for level in stages[:-1]
    ]
    strides = sequence(given.get("strides", [[1, 1, 1]]), "strides")
    seen = {
        "input_channels": conv_shape(shapes, f"{entry}.conv.weight", network)[1],
        "num_classes": conv_shape(shapes, "decoder.seg_layers.0.weight", network)[0],
        "features_per_stage": [kernel[0] for kernel in kernels],
        "kernel_sizes": [list(kernel[2:]) for kernel in kernels],
        "strides": [list(strides[0]), *(list(up[2:]) for up in reversed(ups))],
        "n_conv_per_stage_encoder": [
            count_numbered(shapes, blocks.format(stage)) for stage in stages
        ],
        "n_conv_per_stage_decoder": [
            count_numbered(shapes, f"decoder.stages.{level}.convs.") for level in stages[:-1]
        ],
        "conv_bias": f"{entry}.conv.bias" in shapes,
        "norm": "batch" if f"{entry}.norm.running_mean" in shapes else "instance",
    }
    refuse_contradictions(seen, given, network)
    assumptions = () if "strides" in given else (FIRST_STRIDE.format(strides[0]), _ACTIVATION)
    return {**model_config(name), **given, **seen}, assumptions


def nnunet_keys_of_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read the configuration keys of nnU-Net's own networks from one configuration of plans.json.

    Parameters
    ----------
    plan
        From :func:`segmaformer.checkpoint.training.plans.resolve_configuration`.

    Raises
    ------
    InputError
        A malformed entry, or blocks that these networks do not have.
    """
    stated = unet_keys_of_plan(plan)
    architecture = plan.get("architecture")
    if architecture is None:
        return {**stated, **_style({}, "")}
    where = "plans.json: architecture"
    source = mapping(mapping(architecture, where).get("arch_kwargs"), f"{where}.arch_kwargs")
    for key, known in _OTHER_BLOCKS.items():
        if source.get(key, known) not in (known, None):
            raise InputError(f"{where}: {key} is {source[key]!r}; only {known} can be built")
    return {**stated, **_style(source, where)}


def _style(source: Mapping[str, Any], where: str) -> dict[str, Any]:
    norm = str(source.get("norm_op", "InstanceNorm3d")).rpartition(".")[2]
    activation = str(source.get("nonlin", "LeakyReLU")).rpartition(".")[2]
    if norm not in _NORMS:
        raise InputError(f"{where}: norm_op is {norm}; known: {', '.join(_NORMS)}")
    if activation not in _ACTIVATIONS:
        raise InputError(f"{where}: nonlin is {activation}; known: {', '.join(_ACTIVATIONS)}")
    options = mapping(source.get("norm_op_kwargs") or {}, f"{where}: norm_op_kwargs")
    slopes = mapping(source.get("nonlin_kwargs") or {}, f"{where}: nonlin_kwargs")
    if options.get("affine", True) is not True:
        raise InputError(f"{where}: norms without scale and shift; only trained ones can be built")
    slope = 0.0 if activation == "ReLU" else slopes.get("negative_slope", 0.01)
    return {
        "norm": _NORMS[norm],
        "norm_eps": number(options.get("eps", 1e-5), f"{where}: norm_op_kwargs.eps"),
        "negative_slope": number(slope, f"{where}: nonlin_kwargs.negative_slope"),
    }


def unet_keys_of_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of the U-Net that one configuration of plans.json describes, in either format.

    Parameters
    ----------
    plan
        From :func:`segmaformer.checkpoint.training.plans.resolve_configuration`.

    Raises
    ------
    InputError
        A malformed entry.
    """
    architecture = plan.get("architecture")
    if architecture is not None:
        where = "plans.json: architecture"
        source = mapping(mapping(architecture, where).get("arch_kwargs"), f"{where}.arch_kwargs")
        names = _NAMES_IN_ARCHITECTURE
    else:
        where, source, names = "plans.json", plan, _NAMES_BEFORE
    stated = {ours: source[theirs] for theirs, ours in names.items() if theirs in source}
    _check_stage_count(source, stated, where)
    if "UNet_base_num_features" in source and "strides" in stated:
        stages = len(sequence(stated["strides"], f"{where}: pool_op_kernel_sizes"))
        stated["features_per_stage"] = _doubling(source, stages)
    return {key: _checked(key, value, f"{where}: {key}") for key, value in stated.items()}


def _check_stage_count(source: Mapping[str, Any], stated: Mapping[str, Any], where: str) -> None:
    """Refuse lists of another length than the number of stages that the plans state."""
    if "n_stages" not in source:
        return
    stages = integer(source["n_stages"], f"{where}: n_stages")
    for key in ("features_per_stage", "kernel_sizes", "strides"):
        if key in stated:
            sequence(stated[key], f"{where}: n_stages is {stages}, but {key}", length=stages)


def _doubling(source: Mapping[str, Any], stages: int) -> list[int]:
    base = integer(source["UNet_base_num_features"], "plans.json: UNet_base_num_features")
    largest = source.get("unet_max_num_features", _MOST_FEATURES)
    largest = integer(largest, "plans.json: unet_max_num_features")
    return [min(base * 2**stage, largest) for stage in range(stages)]


def _checked(key: str, value: Any, where: str) -> Any:
    """`value` as lists of whole numbers, as configurations have them."""
    if key == "conv_bias":
        return bool(value)
    if key in ("kernel_sizes", "strides"):
        return [list(integers(entry, where, length=3)) for entry in sequence(value, where)]
    return list(integers(value, where))
