"""The configuration of a U-Mamba from its weights, with strides and tile from nnU-Net's plans.

Nearest-neighbour enlargement has no weights, so nothing in a checkpoint of the second
generation shows its strides; and an Enc takes voxels or channels as tokens by the tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from segmaformer.checkpoint.fields import integers, sequence
from segmaformer.checkpoint.networks.nnunet_config import unet_keys_of_plan
from segmaformer.checkpoint.shapes import (
    Shapes,
    conv_shape,
    count_numbered,
    ratio_of,
    refuse_contradictions,
    shape_of,
)
from segmaformer.models import model_config
from segmaformer.models.planned_unets.umamba import (
    channel_tokens,
    has_layer,
    stage_voxels,
    thinned,
)
from segmaformer.runtime.errors import InputError

_NETWORK: Final = "U-Mamba"
_DEPTHS: Final = ("n_conv_per_stage_encoder", "n_conv_per_stage_decoder")


def umamba_bot_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration of U-Mamba Bot.

    Parameters and results are those of
    :class:`segmaformer.checkpoint.recognition.InferConfig`.

    Raises
    ------
    InputError
        A weight or the strides are missing, the network is 2-D, or `given` contradicts the
        weights.
    """
    given = {key: value for key, value in (given or {}).items() if key != "input_size"}
    config = {**model_config("umamba-bot"), **_known(shapes, given, _mixer(shapes))}
    return config, ()


def umamba_enc_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration of U-Mamba Enc.

    Parameters and errors are those of :func:`umamba_bot_config`; besides, the tile of the
    training (``input_size``) must be given, and agree with the widths of the Mamba layers.

    Returns
    -------
    config, assumptions
        Every key of the network; nothing is assumed.
    """
    given = dict(given or {})
    last = count_numbered(shapes, "encoder.stages.") - 1  # its 2-D form lacks others
    config = {
        **model_config("umamba-enc"),
        "input_size": None,
        **_known(shapes, given, f"encoder.mamba_layers.{last}.mamba."),
    }
    if config["generation"] == 2:
        _check_tokens(shapes, config)
    return config, ()


def _known(shapes: Shapes, given: Mapping[str, Any], mixer: str) -> dict[str, Any]:
    """Keys that the weights show or `given` states, which agree."""
    seen = _from_shapes(shapes, mixer)
    stated = _thinned(given) if seen["generation"] == 2 else dict(given)
    if "strides" not in {**seen, **stated}:
        raise InputError(
            f"the weights of a {_NETWORK} do not show its strides; give the plans.json of its "
            "training (plans), or strides of all stages (strides=[[1,1,1],...])"
        )
    refuse_contradictions(seen, stated, _NETWORK)
    known = {**stated, **seen}
    sequence(known["strides"], "strides", length=len(seen["features_per_stage"]))
    return known


def _thinned(given: Mapping[str, Any]) -> dict[str, Any]:
    if not all(key in given for key in _DEPTHS):
        return dict(given)
    encoder, decoder = thinned(*(list(given[key]) for key in _DEPTHS))
    return {**given, _DEPTHS[0]: encoder, _DEPTHS[1]: decoder}


def _mixer(shapes: Shapes) -> str:
    return "mamba_layer.mamba." if "mamba_layer.mamba.A_log" in shapes else "mamba."


def _from_shapes(shapes: Shapes, mixer: str) -> dict[str, Any]:
    first_generation = "decoder.transpconvs.0.weight" in shapes
    block, blocks = ("blocks.0.conv1.conv", "blocks.") if first_generation else ("0.conv1", "")
    stem = "encoder.stem.convs.0.conv" if first_generation else "encoder.stem.0.conv1"
    stages = range(count_numbered(shapes, "encoder.stages."))
    kernels = [
        conv_shape(shapes, f"encoder.stages.{stage}.{block}.weight", _NETWORK) for stage in stages
    ]
    widths = [kernel[0] for kernel in kernels]
    states = shape_of(shapes, f"{mixer}A_log", 2, _NETWORK)
    width = shape_of(shapes, f"{mixer}out_proj.weight", 2, _NETWORK)[0]
    seen = {
        "input_channels": conv_shape(shapes, f"{stem}.weight", _NETWORK)[1],
        "num_classes": conv_shape(shapes, "decoder.seg_layers.0.weight", _NETWORK)[0],
        "features_per_stage": widths,
        "kernel_sizes": [list(kernel[2:]) for kernel in kernels],
        _DEPTHS[0]: [count_numbered(shapes, f"encoder.stages.{n}.{blocks}") for n in stages],
        _DEPTHS[1]: [count_numbered(shapes, f"decoder.stages.{n}.{blocks}") for n in stages[:-1]],
        "d_state": states[1],
        "d_conv": shape_of(shapes, f"{mixer}conv1d.weight", 3, _NETWORK)[2],
        "expand": ratio_of(states[0], width, f"{mixer}A_log's height"),
        "generation": 1 if first_generation else 2,
    }
    if first_generation:
        ups = [
            conv_shape(shapes, f"decoder.transpconvs.{level}.weight", _NETWORK)
            for level in stages[:-1]
        ]
        seen["strides"] = [[1, 1, 1], *(list(kernel[2:]) for kernel in reversed(ups))]
    else:
        finest = conv_shape(shapes, f"decoder.stages.{len(stages) - 2}.0.conv1.weight", _NETWORK)
        seen["planar"] = finest[1] == widths[0]
    return seen


def _check_tokens(shapes: Shapes, config: Mapping[str, Any]) -> None:
    """Refuse a tile by which Mamba layers would be of other widths than the weights."""
    if config["input_size"] is None:
        raise InputError(
            f"a {_NETWORK} Enc scans voxels or channels by the tile of its training, which the "
            "weights do not show; give its plans.json (plans), or input_size=[D,H,W]"
        )
    voxels = stage_voxels(config["input_size"], config["strides"])
    for stage, over_channels in enumerate(channel_tokens(dict(config))):
        if not has_layer(dict(config), stage):
            continue
        width = shape_of(shapes, f"encoder.mamba_layers.{stage}.norm.weight", 1, _NETWORK)[0]
        expected = voxels[stage] if over_channels else config["features_per_stage"][stage]
        if width != expected:
            kind = "its voxels" if over_channels else "its channels"
            raise InputError(
                f"for a tile of {config['input_size']} the Mamba layer of stage {stage} takes "
                f"tokens of {expected} features, {kind}, but the weights are for {width}; give "
                "the plans.json of this training"
            )


def umamba_bot_keys_of_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read the configuration keys of one configuration of plans.json, in either format.

    U-Mamba takes shapes from the U-Net that nnU-Net planned, and nothing else: bias, norm and
    activation are its own whatever the plan says.

    Parameters
    ----------
    plan
        From :func:`segmaformer.checkpoint.training.plans.resolve_configuration`.

    Raises
    ------
    InputError
        A malformed entry.
    """
    stated = unet_keys_of_plan(plan)
    stated.pop("conv_bias", None)
    return stated


def umamba_enc_keys_of_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read the keys of :func:`umamba_bot_keys_of_plan` and the tile."""
    patch = integers(plan.get("patch_size"), "plans.json: patch_size", length=3)
    return {**umamba_bot_keys_of_plan(plan), "input_size": list(patch)}
