"""Networks of bundles, built by the installed MONAI from a fixed table."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable
from typing import Any

from torch import nn

from segmaformer.checkpoint.fields import listing
from segmaformer.export.monai_bundle.configuration import Component, Configuration
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.progress import Report
from segmaformer.runtime.system.extras import require_extra

NETWORKS: dict[str, frozenset[str]] = {
    name: frozenset(arguments.split())
    for name, arguments in {
        "UNet": "channels strides kernel_size up_kernel_size num_res_units act norm dropout bias "
        "adn_ordering",
        "DynUNet": "kernel_size strides upsample_kernel_size filters dropout norm_name act_name "
        "deep_supervision deep_supr_num res_block trans_bias",
        "SegResNet": "init_filters dropout_prob act norm num_groups use_conv_final blocks_down "
        "blocks_up upsample_mode",
        "SegResNetDS": "init_filters act norm blocks_down blocks_up dsdepth upsample_mode "
        "resolution",
        "SwinUNETR": "patch_size depths num_heads window_size qkv_bias mlp_ratio feature_size "
        "norm_name drop_rate attn_drop_rate dropout_path_rate normalize patch_norm downsample "
        "use_v2",
        "VNet": "act dropout_prob dropout_prob_down dropout_prob_up dropout_dim bias",
        "AttentionUnet": "channels strides kernel_size up_kernel_size dropout",
        "BasicUNet": "features act norm bias dropout upsample",
        "UNETR": "img_size feature_size hidden_size mlp_dim num_heads proj_type norm_name "
        "conv_block res_block dropout_rate qkv_bias",
    }.items()
}
"""Arguments of each network that is known, beside dimensions and channels."""
_OF_ALL = frozenset({"spatial_dims", "in_channels", "out_channels"})
_IGNORED = {
    "SwinUNETR": {
        "img_size": "the network's weights do not depend on it",
        "use_checkpoint": "it saves memory in training alone",
    }
}


def build_network(
    component: Component, configuration: Configuration, channels: int, outputs: int, report: Report
) -> nn.Module:
    """Build a network of the table, with weights that are still to be loaded.

    Parameters
    ----------
    component, configuration
        Description of the network, and where its references lead.
    channels, outputs
        Numbers of input and output channels that the metadata state.
    report
        Called with a line for each argument that is ignored.

    Raises
    ------
    InputError
        The network or an argument is not in the table, or MONAI does not take an argument.
    MissingExtraError
        MONAI is not installed.
    """
    known = NETWORKS.get(component.name)
    if known is None:
        raise InputError(
            f"{configuration.file}: the network is {reprlib.repr(component.name)}; of bundles "
            f"{', '.join(sorted(NETWORKS))} can be exported. Give other networks with --module"
        )
    given = dict(component.arguments)
    for name, reason in _IGNORED.get(component.name, {}).items():
        if given.pop(name, None) is not None:
            report(f"ignored: {component.where}.{name}, as {reason}")
    if unknown := sorted(given.keys() - known - _OF_ALL):
        raise InputError(
            f"{configuration.file}: {component.where} has the arguments {listing(unknown)}, which "
            f"are not known for {component.name}"
        )
    arguments = {
        name: configuration.value(value, f"{component.where}.{name}")
        for name, value in given.items()
    }
    _check_stated(arguments, "in_channels", channels, component, configuration)
    _check_stated(arguments, "out_channels", outputs, component, configuration)
    if arguments.get("spatial_dims", 3) != 3:
        raise InputError(
            f"{configuration.file}: {component.where}.spatial_dims is "
            f"{arguments['spatial_dims']!r}; expected 3"
        )
    return _built(component, configuration, arguments)


def _check_stated(
    arguments: dict[str, Any], name: str, stated: int, component: Component, of: Configuration
) -> None:
    if arguments.setdefault(name, stated) != stated:
        raise InputError(
            f"{of.file}: {component.where}.{name} is {reprlib.repr(arguments[name])}, but "
            f"metadata.json states {stated} channels; correct one of them"
        )


def _built(component: Component, of: Configuration, arguments: dict[str, Any]) -> nn.Module:
    require_extra("monai", extra="monai")
    from monai.networks import nets

    network: Callable[..., nn.Module] = getattr(nets, component.name)
    if "spatial_dims" in inspect.signature(network).parameters:
        arguments.setdefault("spatial_dims", 3)
    try:
        return network(**arguments)
    except (TypeError, ValueError, KeyError, AssertionError, ImportError) as error:
        raise InputError(
            f"{of.file}: MONAI cannot build {component.name} from {component.where}: {error}"
        ) from error
