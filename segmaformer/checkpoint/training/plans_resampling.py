"""Resampling of scans, logits and labels, read from nnU-Net's plans.json.

Functions are known by name and never imported. An argument that the runtime would treat
differently is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from segmaformer.checkpoint.fields import integer, mapping, number
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Resampling

OF_DATA, OF_LOGITS = "resampling_fn_data", "resampling_fn_probabilities"
OF_LABELS = "resampling_fn_seg"
_SPLINES, _TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
_WITHOUT = ("no_resampling_hack", "no_resampling_data_or_seg_to_shape")
_ONLY: Final = {"mode": "linear", "aniso_axis_mode": "nearest-exact"}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    _SPLINES: {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": False,
        "separate_z_anisotropy_threshold": 3.0,
    },
    _TORCH: {
        "is_seg": False,
        "force_separate_z": None,
        "separate_z_anisotropy_threshold": 3.0,
        "memefficient_seg_resampling": False,
        "num_threads": 4,
        "mode": "linear",
        "aniso_axis_mode": "nearest-exact",
    },
    **{function: {} for function in _WITHOUT},
}
"""The functions' own defaults, which differ from the values that nnU-Net's planners pass."""


def is_resampled(configuration: Mapping[str, Any]) -> bool:
    """Tell if scans and logits are resampled: both or neither.

    Raises
    ------
    InputError
        One is resampled and the other not.
    """
    functions = [configuration.get(key, _SPLINES) for key in (OF_DATA, OF_LOGITS)]
    kept = [function in _WITHOUT for function in functions]
    if any(kept) != all(kept):
        raise InputError(
            f"plans.json: {OF_DATA} is {functions[0]!r}, but {OF_LOGITS} is {functions[1]!r}; "
            "expected that both resample, or neither"
        )
    return not all(kept)


def resampling_of(
    configuration: Mapping[str, Any], key: str, *, order: int, of_labels: bool = False
) -> Resampling:
    """Read how scans, logits or labels are resampled.

    Parameters
    ----------
    configuration
        From :func:`segmaformer.checkpoint.training.plans.resolve_configuration`.
    key
        :data:`OF_DATA`, :data:`OF_LOGITS` or :data:`OF_LABELS`.
    order
        Order of the spline that nnU-Net's planner plans.
    of_labels
        Whether label maps are resampled.

    Raises
    ------
    InputError
        The function is none of nnU-Net's, or takes an argument that has another effect there.
    """
    function = configuration.get(key, _SPLINES)
    where = f"plans.json: {key}_kwargs"
    planned = {"order": order, "force_separate_z": None, "is_seg": of_labels}
    planned = planned if function == _SPLINES else {}
    given = mapping(configuration.get(f"{key}_kwargs", planned), where)
    known_functions = (_SPLINES,) if of_labels else tuple(_DEFAULTS)
    if function not in known_functions:
        raise InputError(f"plans.json: {key} is {function!r}; known: {', '.join(known_functions)}")
    defaults = _DEFAULTS[function]
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise InputError(
            f"{where} has {', '.join(unknown)}, which {function} does not know; "
            f"known: {', '.join(defaults) or 'none'}"
        )
    if function in _WITHOUT:
        return Resampling(order=order)
    options = {**defaults, **given}
    kind = "labels" if of_labels else "images"
    for name, known in {**_ONLY, "is_seg": of_labels}.items():
        if name in options and (type(options[name]), options[name]) != (type(known), known):
            raise InputError(
                f"{where}: {name} is {options[name]!r}; expected {json.dumps(known)} for {kind}"
            )
    separate = options["force_separate_z"]
    if separate is not None and not isinstance(separate, bool):
        raise InputError(f"{where}: force_separate_z is {separate!r}; expected true, false or null")
    return Resampling(
        order=_spline_order(options.get("order", 1), f"{where}: order"),
        order_z=_spline_order(options.get("order_z", 0), f"{where}: order_z"),
        separate_z=separate,
        anisotropy_threshold=number(
            options["separate_z_anisotropy_threshold"], f"{where}: threshold"
        ),
        method="torch" if function == _TORCH else "spline",
    )


def _spline_order(value: Any, where: str) -> int:
    order = integer(value, where)
    if not 0 <= order <= 5:
        raise InputError(f"{where} is {order}; expected a spline order from 0 to 5")
    return order
