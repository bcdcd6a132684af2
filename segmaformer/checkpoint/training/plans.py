"""Preprocessing and tiling of a package, read from nnU-Net's plans.json.

Old and new plans describe the network differently, but it is read from the weights; the entries
about images have the same names in both. Any entry that the runtime would treat differently
from nnU-Net is an error; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from segmaformer.checkpoint.fields import (
    integers,
    mapping,
    number,
    sequence,
    triple,
)
from segmaformer.checkpoint.planes import plan_is_of_planes, plan_with_depth
from segmaformer.checkpoint.training.plans_resampling import (
    OF_DATA,
    OF_LABELS,
    OF_LOGITS,
    is_resampled,
    resampling_of,
)
from segmaformer.checkpoint.training.readers import TrainingReader
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import (
    GridSpacing,
    Normalization,
    NormalizationScheme,
    Preprocessing,
    PreviousStage,
    Triple,
)

_SCHEMES: Final[dict[str, NormalizationScheme]] = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale01",
    "RGBTo01Normalization": "rgb01",
}
_MOST_ANCESTORS = 20
_FINEST_MM, _COARSEST_MM = 1e-6, 1e6
_PREPROCESSOR = "DefaultPreprocessor"
_LABEL_MANAGER = "LabelManager"


def resolve_configuration(
    plans: Mapping[str, Any], name: str | None, *, of_planes: bool = False
) -> tuple[str, Mapping[str, Any]]:
    """Return one configuration with everything it inherits.

    Parameters
    ----------
    plans
        Content of plans.json.
    name
        Name such as ``3d_fullres``; None takes the only configuration that suits the network and
        stands alone.
    of_planes
        Whether the network is 2-D; its configuration is then returned with a depth of one voxel,
        see :func:`segmaformer.checkpoint.planes.plan_with_depth`.

    Raises
    ------
    InputError
        The configuration does not exist, has other axes than the network or inherits from nowhere;
        or `name` is None and there is not exactly one.
    """
    configurations = mapping(plans.get("configurations"), "plans.json: configurations")
    if name is None:
        name = _only_configuration(configurations, of_planes=of_planes)
    resolved = _inherit(configurations, name, ())
    if plan_is_of_planes(resolved) != of_planes:
        raise InputError(
            f"configuration {name} has the patch_size {resolved.get('patch_size')}, but the "
            f"network is {'2-D' if of_planes else '3-D'}; give the configuration of its training"
        )
    return name, plan_with_depth(resolved) if of_planes else resolved


def _only_configuration(configurations: Mapping[str, Any], *, of_planes: bool) -> str:
    candidates = []
    for name in configurations:
        resolved = _inherit(configurations, name, ())
        if plan_is_of_planes(resolved) == of_planes and resolved.get("previous_stage") is None:
            candidates.append(name)
    kind = "2-D" if of_planes else "3-D"
    if len(candidates) != 1:
        raise InputError(
            f"plans.json describes {', '.join(candidates) or f'no {kind} configuration'}; "
            "say which one the weights belong to (configuration)"
        )
    return candidates[0]


def _inherit(
    configurations: Mapping[str, Any], name: str, children: tuple[str, ...]
) -> dict[str, Any]:
    if name not in configurations:
        raise InputError(
            f"plans.json has no configuration {name!r}; it has {', '.join(configurations)}"
        )
    if name in children:
        raise InputError(f"plans.json: configuration {name!r} inherits from itself")
    if len(children) > _MOST_ANCESTORS:
        raise InputError(
            f"plans.json: configuration {children[0]!r} inherits over more than "
            f"{_MOST_ANCESTORS} others; write out what it is"
        )
    own = mapping(configurations[name], f"plans.json: configuration {name}")
    parent = own.get("inherits_from")
    inherited = {} if parent is None else _inherit(configurations, str(parent), (*children, name))
    return {**inherited, **own}


def network_arguments(
    configuration: Mapping[str, Any], class_name: str, known: Collection[str]
) -> dict[str, Any]:
    """Return the configuration keys that the plans state for the network itself.

    Plans of a training with a custom network still describe the U-Net that nnU-Net would have
    used, so only an ``architecture`` of the right class counts.

    Parameters
    ----------
    configuration
        Result of :func:`resolve_configuration`.
    class_name
        Last part of the expected ``architecture.network_class_name``.
    known
        Keys that the network has.

    Raises
    ------
    InputError
        The plans state a key that the network does not have.
    """
    architecture = configuration.get("architecture")
    if not isinstance(architecture, Mapping):
        return {}
    if str(architecture.get("network_class_name")).rpartition(".")[2] != class_name:
        return {}
    arguments = dict(mapping(architecture.get("arch_kwargs"), "plans.json: arch_kwargs"))
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise InputError(
            f"plans.json: arch_kwargs has {', '.join(unknown)}, which {class_name} does not know"
        )
    return arguments


def patch_size(configuration: Mapping[str, Any]) -> Triple:
    """Return depth, height and width of the training patch in voxels.

    Raises
    ------
    InputError
        The entry is not three positive whole numbers.
    """
    return triple(configuration.get("patch_size"), "plans.json: patch_size")


def preprocessing_of(
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    channels: tuple[str, ...],
    reader: TrainingReader,
) -> Preprocessing:
    """Read how nnU-Net prepares a scan for the network.

    Parameters
    ----------
    plans
        Content of plans.json.
    configuration
        The part of it from :func:`resolve_configuration`.
    channels
        Names of the input channels.
    reader
        Reader of the training's scans.

    Raises
    ------
    InputError
        An entry is missing or malformed, or names a preprocessor, normalisation, label manager
        or resampling function other than nnU-Net's own.
    """
    preprocessor = configuration.get("preprocessor_name", _PREPROCESSOR)
    if preprocessor != _PREPROCESSOR:
        raise InputError(f"plans.json: preprocessor {preprocessor!r}; known: {_PREPROCESSOR}")
    label_manager = plans.get("label_manager", _LABEL_MANAGER)
    if label_manager != _LABEL_MANAGER:
        raise InputError(f"plans.json: label_manager {label_manager!r}; known: {_LABEL_MANAGER}")
    return Preprocessing(
        channels=channels,
        normalization=_normalization(plans, configuration, len(channels)),
        orientation=reader.orientation,
        transpose_forward=_transpose(plans),
        crop_to_nonzero=True,
        spacing=_spacing(configuration) if is_resampled(configuration) else None,
        resampling=resampling_of(configuration, OF_DATA, order=3),
        logits_resampling=resampling_of(configuration, OF_LOGITS, order=1),
        reader=reader.rule,
    )


def previous_stage_of(
    configuration: Mapping[str, Any], labels: tuple[int, ...]
) -> PreviousStage | None:
    """Read how a cascade's second network takes the first one's labels; None if this is no cascade.

    Parameters
    ----------
    configuration
        From :func:`resolve_configuration`.
    labels
        Values of the labels of the training but the background.

    Raises
    ------
    InputError
        Labels are resampled in another way than nnU-Net's planner plans.
    """
    if configuration.get("previous_stage") is None:
        return None
    resampling = resampling_of(configuration, OF_LABELS, order=1, of_labels=True)
    if resampling.order > 1 or resampling.order_z != 0:
        raise InputError(
            f"plans.json: resampling_fn_seg_kwargs state order {resampling.order} and order_z "
            f"{resampling.order_z} for the labels of a cascade's first stage; expected order 0 or "
            "1, and order_z 0"
        )
    return PreviousStage(labels, resampling)


def _transpose(plans: Mapping[str, Any]) -> Triple:
    where = "plans.json: transpose_forward"
    first, second, third = integers(plans.get("transpose_forward", [0, 1, 2]), where, length=3)
    if {first, second, third} != {0, 1, 2}:
        raise InputError(f"{where} is {[first, second, third]}; expected an order of 0, 1, 2")
    return first, second, third


def _spacing(configuration: Mapping[str, Any]) -> GridSpacing:
    where = "plans.json: spacing"
    depth, height, width = sequence(configuration.get("spacing"), where, length=3)
    depth = None if depth is None and _is_plane(configuration) else number(depth, where)
    height, width = number(height, where), number(width, where)
    steps = [step for step in (depth, height, width) if step is not None]
    if not all(_FINEST_MM <= step <= _COARSEST_MM for step in steps):
        raise InputError(
            f"{where} is {(depth, height, width)}; expected positive millimetres, "
            f"{_FINEST_MM:g} to {_COARSEST_MM:g}"
        )
    return depth, height, width


def _is_plane(configuration: Mapping[str, Any]) -> bool:
    """Tell if a patch is one voxel deep, so that slices may keep their distance."""
    return patch_size(configuration)[0] == 1


def _normalization(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int
) -> tuple[Normalization, ...]:
    schemes = sequence(
        configuration.get("normalization_schemes"), "plans.json: normalization_schemes"
    )
    if len(schemes) != channels:
        raise InputError(
            f"plans.json normalises {len(schemes)} channels, but the scans have {channels}; "
            "use the plans.json and dataset.json of one training"
        )
    masks = sequence(
        configuration.get("use_mask_for_norm", [False] * channels),
        "plans.json: use_mask_for_norm",
        length=channels,
    )
    if not all(isinstance(mask, bool) for mask in masks):
        raise InputError(f"plans.json: use_mask_for_norm is {masks!r}; expected true or false")
    return tuple(
        _channel_normalization(plans, channel, str(scheme), mask)
        for channel, (scheme, mask) in enumerate(zip(schemes, masks, strict=True))
    )


def _channel_normalization(
    plans: Mapping[str, Any], channel: int, scheme: str, use_mask: bool
) -> Normalization:
    if scheme not in _SCHEMES:
        raise InputError(
            f"plans.json: unknown normalisation {scheme!r}; known: {', '.join(_SCHEMES)}"
        )
    if scheme != "CTNormalization":
        return Normalization(_SCHEMES[scheme], use_mask=use_mask)
    statistics = _intensities(plans, channel)
    lower, upper = statistics["percentile_00_5"], statistics["percentile_99_5"]
    if statistics["std"] <= 0 or lower >= upper:
        raise InputError(
            f"plans.json: channel {channel} is CT of the standard deviation {statistics['std']:g}, "
            f"clipped to {lower:g} and {upper:g}; expected a deviation above zero and a range"
        )
    return Normalization(
        "ct",
        use_mask=use_mask,
        mean=statistics["mean"],
        std=statistics["std"],
        lower=lower,
        upper=upper,
    )


def _intensities(plans: Mapping[str, Any], channel: int) -> dict[str, float]:
    """Return the foreground intensities of one channel over the training set."""
    key = "foreground_intensity_properties_per_channel"
    if key not in plans:
        key = "foreground_intensity_properties_by_modality"
    where = f"plans.json: {key}, channel {channel}"
    properties = mapping(plans.get(key), f"plans.json: {key}")
    values = mapping(properties.get(str(channel)), where)
    names = ("mean", "std", "percentile_00_5", "percentile_99_5")
    return {name: number(values.get(name), f"{where}, {name}") for name in names}
