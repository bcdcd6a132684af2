"""Reader of nnU-Net's dataset.json: names of input channels and meaning of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segmaformer.checkpoint.fields import integer, integers, mapping, sequence
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import LARGEST_LABEL
from segmaformer.runtime.spec import Label, Output, Region

IGNORE = "ignore"


def channel_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the input channels in order.

    Parameters
    ----------
    dataset
        Content of dataset.json; ``modality`` is the older name of ``channel_names``.

    Raises
    ------
    InputError
        There is neither key, or the channel numbers do not count up from 0.
    """
    key = "channel_names" if "channel_names" in dataset else "modality"
    channels = mapping(dataset.get(key), "dataset.json: channel_names")
    names = {str(number): name for number, name in channels.items()}
    expected = [str(number) for number in range(len(names))]
    if not names or set(names) != set(expected):
        raise InputError(
            f"dataset.json: {key} numbers its channels {', '.join(names) or 'not at all'}; "
            "expected 0, 1, 2 and so on"
        )
    return tuple(str(names[number]) for number in expected)


def output_of(dataset: Mapping[str, Any]) -> Output:
    """Read the meaning of the output channels.

    Parameters
    ----------
    dataset
        Content of dataset.json. ``labels`` maps names to values. If a name has several values,
        all but the background are overlapping regions, and ``regions_class_order`` gives the
        value that each paints, later over earlier. The label ``ignore`` only exists in
        training.

    Raises
    ------
    InputError
        Labels do not count up from 0, or regions lack their class order.
    """
    labels = {
        str(name): _values(value, str(name))
        for name, value in mapping(dataset.get("labels"), "dataset.json: labels").items()
        if name != IGNORE
    }
    if any(len(values) > 1 for values in labels.values()):
        foreground = {name: values for name, values in labels.items() if set(values) != {0}}
        return region_output(foreground, dataset.get("regions_class_order"))
    ordered = sorted((values[0], name) for name, values in labels.items())
    if [value for value, _ in ordered] != list(range(len(ordered))) or len(ordered) < 2:
        found = ", ".join(f"{name} {value}" for value, name in ordered) or "none"
        raise InputError(
            f"dataset.json: labels are {found}; expected 0 for the background and 1, 2 and so on, "
            "each once"
        )
    return Output(tuple(Label(value, name) for value, name in ordered))


def foreground_values(dataset: Mapping[str, Any]) -> tuple[int, ...]:
    """Return all values of a training's labels but the background's, in order.

    Those that regions unite count, ``ignore`` does not; see :func:`output_of`.
    """
    labels = mapping(dataset.get("labels"), "dataset.json: labels").items()
    values = (_values(value, str(name)) for name, value in labels if name != IGNORE)
    return tuple(sorted({number for numbers in values for number in numbers} - {0}))


def region_output(regions: Mapping[str, Sequence[int]], class_order: Any) -> Output:
    """Build an output of overlapping regions.

    Parameters
    ----------
    regions
        The labels that each region unites, in channel order.
    class_order
        The value that each region paints into the label map.

    Returns
    -------
    Output
        Each value is named after its region, or ``rest of`` that region if later regions paint
        over parts of it.

    Raises
    ------
    InputError
        `class_order` is missing, of another length, or repeats a value.
    """
    where = "dataset.json: regions_class_order"
    if class_order is None:
        raise InputError(f"{where} is missing; labels with several values need it")
    values = integers(class_order, where, length=len(regions))
    if len(set(values)) < len(values) or not all(0 < value <= LARGEST_LABEL for value in values):
        raise InputError(f"{where} is {list(values)}; expected different positive labels")
    channels = tuple(
        Region(name, tuple(united), value)
        for (name, united), value in zip(regions.items(), values, strict=True)
    )
    painted = [
        Label(region.value, _painted_name(region, channels[index + 1 :]))
        for index, region in enumerate(channels)
    ]
    painted.sort(key=lambda label: label.value)
    return Output((Label(0, "background"), *painted), channels)


def _painted_name(region: Region, later: Sequence[Region]) -> str:
    overpainted = any(set(region.labels) & set(other.labels) for other in later)
    return f"rest of {region.name}" if overpainted else region.name


def _values(value: Any, name: str) -> tuple[int, ...]:
    where = f"dataset.json: label {name}"
    single = not isinstance(value, list | tuple)
    values = (integer(value, where),) if single else integers(sequence(value, where), where)
    if not values or not all(0 <= number <= LARGEST_LABEL for number in values):
        raise InputError(f"{where} is {value!r}; expected labels from 0 to {LARGEST_LABEL}")
    return values
