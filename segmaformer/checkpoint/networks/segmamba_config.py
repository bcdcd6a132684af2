"""Inference of the configurations of SegMamba and SegResMamba from their weights' shapes.

Two facts leave no trace in the weights. SegMamba's code has added the identity around each
Mamba layer since 5 June 2024; checkpoints of the form used from 26 March 2024 on may be older
or newer. SegResMamba's published code never calls its Mamba layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segmaformer.checkpoint.shapes import (
    Shapes,
    count_numbered,
    ratio_of,
    refuse_contradictions,
    shape_of,
)
from segmaformer.models import model_config
from segmaformer.models.segmamba.segmamba import STAGES
from segmaformer.runtime.errors import InputError

_RESIDUAL = (
    "The identity around each Mamba layer is on (mamba_residual): the published code has it since "
    "5 June 2024, and weights do not show whether they are older. For a training from before that "
    "day, set mamba_residual=false."
)
_NO_RESIDUAL = (
    "The identity around each Mamba layer is off (mamba_residual): code with two scan directions "
    "is older than it."
)
_NSLICES = (
    "Slices of the third scan order (nslices): {}, fixed in the published code whatever the tile."
)
_NO_TOM = (
    "The Mamba layers in the checkpoint are not called (use_tom): the published code never calls "
    "them. For a training whose code did, set use_tom=true."
)


def segmamba_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration of a SegMamba.

    Parameters and results are those of
    :class:`segmaformer.checkpoint.recognition.InferConfig`.

    Raises
    ------
    InputError
        A weight is missing, the form is from before 7 March 2024, or `given` contradicts the
        weights.
    """
    given = dict(given or {})
    if "vit.gscs.0.proj.weight" not in shapes:
        raise InputError(
            "this SegMamba has no gated convolutions (vit.gscs): code from before 7 March 2024, "
            "which this version does not build; train again with the published code"
        )
    three_orders = "vit.stages.0.0.mamba.A_s_log" in shapes
    seen = {
        **_encoder(shapes, "vit.stages.0.0.mamba.", "SegMamba"),
        "depths": [count_numbered(shapes, f"vit.stages.{stage}.") for stage in range(STAGES)],
        "hidden_size": _shape(shapes, "encoder5.layer.conv1.conv.weight", "SegMamba")[0],
        "out_chans": _shape(shapes, "out.conv.conv.weight", "SegMamba")[0],
    }
    refuse_contradictions(seen, given, "SegMamba")
    assumed: dict[str, Any] = {"mamba_residual": three_orders}
    if not three_orders:
        assumed["nslices"] = None
    config = {**model_config("segmamba"), **seen, **assumed, **given}
    sentences = {"mamba_residual": _RESIDUAL if three_orders else _NO_RESIDUAL}
    if three_orders:
        sentences["nslices"] = _NSLICES.format(config["nslices"])
    return config, tuple(text for key, text in sentences.items() if key not in given)


def segresmamba_config(
    shapes: Shapes, *, trainer: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the full configuration of a SegResMamba; see :func:`segmamba_config`.

    Raises
    ------
    InputError
        A weight is missing, or `given` contradicts the weights.
    """
    given = dict(given or {})
    seen = {
        **_encoder(shapes, "vit.gscs.0.mamba_layer.mamba.", "SegResMamba"),
        "out_chans": shape_of(shapes, "out.weight", 5, "SegResMamba")[1],
    }
    refuse_contradictions(seen, given, "SegResMamba")
    config = {**model_config("segresmamba"), **seen, **given}
    if not config["use_tom"]:
        return config, () if "use_tom" in given else (_NO_TOM,)
    return config, () if "nslices" in given else (_NSLICES.format(config["nslices"]),)


def _encoder(shapes: Shapes, mixer: str, network: str) -> dict[str, Any]:
    """Read the keys that both networks' encoders have; `mixer` prefixes their first scan."""
    widths = [
        _shape(shapes, f"vit.gscs.{stage}.proj.weight", network)[0] for stage in range(STAGES)
    ]
    hidden = _shape(shapes, "vit.mlps.0.fc1.weight", network)[0]
    rows = shape_of(shapes, f"{mixer}in_proj.weight", 2, network)[0]
    return {
        "in_chans": _shape(shapes, "vit.downsample_layers.0.0.weight", network)[1],
        "feat_size": widths,
        "mlp_ratio": ratio_of(hidden, widths[0], "vit.mlps.0.fc1.weight's height"),
        "d_state": shape_of(shapes, f"{mixer}A_log", 2, network)[1],
        "d_conv": shape_of(shapes, f"{mixer}conv1d.weight", 3, network)[2],
        "expand": ratio_of(rows, 2 * widths[0], f"{mixer}in_proj.weight's height"),
    }


def _shape(shapes: Shapes, key: str, network: str) -> tuple[int, ...]:
    return shape_of(shapes, key, 5, network)
