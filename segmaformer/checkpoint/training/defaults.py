"""Assumptions about scans and labels without a plans.json or dataset.json.

Every function returns its choice and a sentence that states it, because a wrong guess here
raises no error; it only makes worse segmentations.
"""

from __future__ import annotations

from segmaformer.checkpoint.training.labels import region_output
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

_BRATS = (4, 3)
_ABDOMEN_CT = (1, 14)
_BRATS_CHANNELS = ("Flair", "T1", "T1ce", "T2")
_BRATS_REGIONS = {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}


def default_channels(in_channels: int, num_classes: int) -> tuple[tuple[str, ...], str]:
    """Name the input channels, and state the assumption.

    Parameters
    ----------
    in_channels, num_classes
        Numbers of channels and classes of the network. Four and three are those of the published
        BraTS training.
    """
    if (in_channels, num_classes) == _BRATS:
        names = _BRATS_CHANNELS
        return (
            names,
            f"Input channels: {', '.join(names)}, the order of the published BraTS training.",
        )
    return (
        tuple(f"channel {number}" for number in range(in_channels)),
        "Input channels: numbered, as no dataset.json names them.",
    )


def default_output(in_channels: int, num_classes: int) -> tuple[Output, str]:
    """Choose the meaning of the output channels, and state the assumption.

    Parameters
    ----------
    in_channels, num_classes
        Numbers of channels and classes of the network. One class is a mask; four channels with
        three classes are the BraTS regions; anything else is a softmax with the background first.
    """
    if (in_channels, num_classes) == _BRATS:
        return (
            region_output(_BRATS_REGIONS, (1, 2, 3)),
            "Output: the overlapping BraTS regions whole tumor, tumor core and enhancing tumor.",
        )
    if num_classes == 1:
        return region_output({"label 1": (1,)}, (1,)), "Output: one mask (sigmoid), painted as 1."
    names = ["background", *(f"label {value}" for value in range(1, num_classes))]
    labels = tuple(Label(value, name) for value, name in enumerate(names))
    return Output(labels), f"Output: background and {num_classes - 1} exclusive, unnamed labels."


def default_preprocessing(
    channels: tuple[str, ...], num_classes: int, *, named: bool
) -> tuple[Preprocessing | None, str]:
    """Choose z-scores in RAS orientation at the scan's own spacing, and state the assumption.

    Parameters
    ----------
    channels
        Names of the input channels.
    num_classes
        Number of outputs of the network.
    named
        Whether a dataset.json gave the channel names.

    Returns
    -------
    preprocessing
        None for CT, whose normalisation needs intensities of the training set that only
        plans.json records. A scan is CT if a channel has that name or, without names, if
        the network has one channel and 14 classes, as a published one does.
    assumption
        A sentence that states the choice.
    """
    ct_by_name = named and any(name.strip().upper() == "CT" for name in channels)
    if ct_by_name or (not named and (len(channels), num_classes) == _ABDOMEN_CT):
        return None, "Preprocessing: unknown; CT needs the intensities that plans.json records."
    preprocessing = Preprocessing(
        channels=channels, normalization=(Normalization("zscore"),) * len(channels)
    )
    return preprocessing, (
        "Preprocessing: RAS orientation, cropped to nonzero, each channel scaled to mean 0 and "
        "standard deviation 1, the scan's own spacing kept; no plans.json says otherwise."
    )
