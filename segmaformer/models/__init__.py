"""The networks, by name and configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from segmaformer.models.config_values import check_values as _check_values
from segmaformer.models.planned_unets import nnunet as _nnunet
from segmaformer.models.planned_unets import taming as _taming
from segmaformer.models.planned_unets import umamba as _umamba
from segmaformer.models.pyramids import segformer3d as _segformer3d
from segmaformer.models.pyramids import segmaformer as _segmaformer
from segmaformer.models.segmamba import segmamba as _segmamba
from segmaformer.models.segmamba import segresmamba as _segresmamba

__all__ = [
    "channel_counts",
    "create_model",
    "list_models",
    "list_presets",
    "model_config",
    "network_class",
]

_INPUT_KEYS = ("in_channels", "in_chans", "input_channels")
_OUTPUT_KEYS = ("num_classes", "out_chans")

_Row = tuple[type[nn.Module], dict[str, Any], dict[str, dict[str, Any]]]

_NETWORKS: dict[str, _Row] = {
    "segmaformer": (_segmaformer.SegMaFormer, _segmaformer.DEFAULTS, _segmaformer.PRESETS),
    "segformer3d": (_segformer3d.SegFormer3D, _segformer3d.DEFAULTS, _segformer3d.PRESETS),
    "segmamba": (_segmamba.SegMamba, _segmamba.DEFAULTS, _segmamba.PRESETS),
    "segresmamba": (_segresmamba.SegResMamba, _segresmamba.DEFAULTS, _segresmamba.PRESETS),
    "taming-segmamba": (_taming.TamingSegMamba, _taming.DEFAULTS, _taming.PRESETS),
    "taming-bisegmamba": (_taming.TamingBiSegMamba, _taming.DEFAULTS, _taming.PRESETS),
    "taming-multisegmamba": (
        _taming.TamingMultiSegMamba,
        _taming.MULTI_DEFAULTS,
        _taming.PRESETS,
    ),
    "taming-segmambaskip": (_taming.TamingSegMambaSkip, _taming.DEFAULTS, _taming.PRESETS),
    "nnunet-plain": (_nnunet.PlainUNet, _nnunet.PLAIN_DEFAULTS, _nnunet.PRESETS),
    "nnunet-resenc": (_nnunet.ResidualEncoderUNet, _nnunet.RESENC_DEFAULTS, _nnunet.PRESETS),
    "umamba-bot": (_umamba.UMambaBot, _umamba.BOT_DEFAULTS, _umamba.PRESETS),
    "umamba-enc": (_umamba.UMambaEnc, _umamba.ENC_DEFAULTS, _umamba.PRESETS),
}


def list_models() -> list[str]:
    """List the names that :func:`create_model` takes."""
    return sorted(_NETWORKS)


def list_presets(name: str) -> list[str]:
    """List the published configurations of network `name`."""
    return sorted(_network(name)[2])


def model_config(name: str, *, preset: str | None = None, **config: Any) -> dict[str, Any]:
    """Return the complete configuration that :func:`create_model` would build.

    Parameters
    ----------
    name
        One of :func:`list_models`.
    preset
        One of :func:`list_presets`, or None for the defaults.
    **config
        Keys that differ from the preset.

    Raises
    ------
    ValueError
        The name, preset or key is unknown, or a value is of another kind than the default.
    """
    _, defaults, presets = _network(name)
    if preset is not None and preset not in presets:
        raise ValueError(f"{name} has no preset {preset!r}; it has {', '.join(sorted(presets))}")
    unknown = sorted(set(config) - set(defaults))
    if unknown:
        raise ValueError(
            f"{name} has no configuration key {', '.join(unknown)}; "
            f"it has {', '.join(sorted(defaults))}"
        )
    _check_values(config, defaults)
    return copy.deepcopy({**defaults, **(presets[preset] if preset else {}), **config})


def network_class(name: str) -> type[nn.Module]:
    """Return the class of network `name`."""
    return _network(name)[0]


def channel_counts(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of input channels and outputs, by any of their authors' names."""
    inputs = next(config[key] for key in _INPUT_KEYS if key in config)
    outputs = next(config[key] for key in _OUTPUT_KEYS if key in config)
    return inputs, outputs


def create_model(name: str, *, preset: str | None = None, **config: Any) -> nn.Module:
    """Build a network with the state_dict keys of its published code.

    Parameters are those of :func:`model_config`. The weights are fresh; load a
    checkpoint with :func:`segmaformer.checkpoint.load_checkpoint`.
    """
    return _network(name)[0](model_config(name, preset=preset, **config))


def _network(name: str) -> _Row:
    if name not in _NETWORKS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(list_models())}")
    return _NETWORKS[name]
