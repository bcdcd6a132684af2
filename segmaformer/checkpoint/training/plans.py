"""Preprocessing and tiling of a package, read from nnU-Net's plans.json.

Old and new plans describe the network differently, but it is read from the weights; the entries
about images have the same names in both. Any entry that the runtime would treat differently
from nnU-Net is an error; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from segmaformer.checkpoint.fields import (
    integer,
    integers,
    mapping,
    number,
    sequence,
    triple,
)
from segmaformer.checkpoint.training.readers import TrainingReader
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import (
    Normalization,
    NormalizationScheme,
    Preprocessing,
    PreviousStage,
    Resampling,
    Spacing,
    Triple,
)

_SCHEMES: Final[dict[str, NormalizationScheme]] = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale01",
    "RGBTo01Normalization": "rgb01",
}
_RESAMPLING_FUNCTION = "resample_data_or_seg_to_shape"
_RESAMPLING_DEFAULTS: Final[dict[str, Any]] = {
    "is_seg": False,
    "order": 3,
    "order_z": 0,
    "force_separate_z": False,
    "separate_z_anisotropy_threshold": 3.0,
}
"""The function's own defaults, which differ from the values that nnU-Net's planner passes."""
_MOST_ANCESTORS = 20
_FINEST_MM, _COARSEST_MM = 1e-6, 1e6
_PREPROCESSOR = "DefaultPreprocessor"
_LABEL_MANAGER = "LabelManager"


def resolve_configuration(
    plans: Mapping[str, Any], name: str | None
) -> tuple[str, Mapping[str, Any]]:
    """Return one configuration with everything it inherits.

    Parameters
    ----------
    plans
        Content of plans.json.
    name
        Name such as ``3d_fullres``; None takes the only configuration that is three-dimensional
        and stands alone.

    Raises
    ------
    InputError
        The configuration does not exist or inherits from nowhere; or `name` is None and there is
        not exactly one.
    """
    configurations = mapping(plans.get("configurations"), "plans.json: configurations")
    if name is None:
        name = _only_configuration(configurations)
    return name, _inherit(configurations, name, ())


def _only_configuration(configurations: Mapping[str, Any]) -> str:
    candidates = []
    for name in configurations:
        resolved = _inherit(configurations, name, ())
        patch = resolved.get("patch_size")
        volumetric = isinstance(patch, list | tuple) and len(patch) == 3
        if volumetric and resolved.get("previous_stage") is None:
            candidates.append(name)
    if len(candidates) != 1:
        raise InputError(
            f"plans.json describes {', '.join(candidates) or 'no 3-D configuration'}; "
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
        spacing=_spacing(configuration),
        resampling=_resampling(configuration, "resampling_fn_data", order=3),
        logits_resampling=_resampling(configuration, "resampling_fn_probabilities", order=1),
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
    resampling = _resampling(configuration, "resampling_fn_seg", order=1, of_labels=True)
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


def _spacing(configuration: Mapping[str, Any]) -> Spacing:
    where = "plans.json: spacing"
    depth, height, width = (
        number(value, where) for value in sequence(configuration.get("spacing"), where, length=3)
    )
    if not all(_FINEST_MM <= step <= _COARSEST_MM for step in (depth, height, width)):
        raise InputError(
            f"{where} is {(depth, height, width)}; expected positive millimetres, "
            f"{_FINEST_MM:g} to {_COARSEST_MM:g}"
        )
    return depth, height, width


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


def _resampling(
    configuration: Mapping[str, Any], key: str, *, order: int, of_labels: bool = False
) -> Resampling:
    """Read arguments of nnU-Net's resampling function; `order` is its planner's value."""
    function = configuration.get(key, _RESAMPLING_FUNCTION)
    if function != _RESAMPLING_FUNCTION:
        raise InputError(f"plans.json: {key} is {function!r}; known: {_RESAMPLING_FUNCTION}")
    where = f"plans.json: {key}_kwargs"
    planned = {"order": order, "force_separate_z": None, "is_seg": of_labels}
    given = mapping(configuration.get(f"{key}_kwargs", planned), where)
    unknown = sorted(set(given) - set(_RESAMPLING_DEFAULTS))
    if unknown:
        raise InputError(
            f"{where} has {', '.join(unknown)}, which {_RESAMPLING_FUNCTION} does not know; "
            f"known: {', '.join(_RESAMPLING_DEFAULTS)}"
        )
    options = {**_RESAMPLING_DEFAULTS, **given}
    separate = options["force_separate_z"]
    if separate is not None and not isinstance(separate, bool):
        raise InputError(f"{where}: force_separate_z is {separate!r}; expected true, false or null")
    if options["is_seg"] is not of_labels:
        expected = "true for labels" if of_labels else "false for images"
        raise InputError(f"{where}: is_seg is {options['is_seg']!r}; expected {expected}")
    return Resampling(
        order=_spline_order(options["order"], f"{where}: order"),
        order_z=_spline_order(options["order_z"], f"{where}: order_z"),
        separate_z=separate,
        anisotropy_threshold=number(
            options["separate_z_anisotropy_threshold"], f"{where}: threshold"
        ),
    )


def _spline_order(value: Any, where: str) -> int:
    order = integer(value, where)
    if not 0 <= order <= 5:
        raise InputError(f"{where} is {order}; expected a spline order from 0 to 5")
    return order
