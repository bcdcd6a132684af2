"""The nnU-Net reader that a training used, and its meaning for a package.

The plans name it. If they do not, nnU-Net goes by ``overwrite_image_reader_writer`` in
dataset.json, and else by the ending of the training's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Reader

_READERS: Final[dict[str, tuple[Reader, str | None]]] = {
    "SimpleITKIO": ("simpleitk", None),
    "NibabelIO": ("nibabel", None),
    "NibabelIOWithReorient": ("nibabel_reoriented", "RAS"),
    "SimpleITKIOWithReorient": ("simpleitk", "RAS"),
}
"""Rule of spacing and orientation for voxels, by the name of nnU-Net's reader."""
_OTHER_FORMATS: Final = {
    "Tiff3DIO": "TIFF, whose spacing is in a file beside it",
    "NaturalImage2DIO": "flat images, which have no spacing",
}
_READER_OF_ENDING: Final = {
    **dict.fromkeys((".nii.gz", ".nrrd", ".mha", ".gipl"), "SimpleITKIO"),
    ".nii": "NibabelIO",
    **dict.fromkeys((".png", ".bmp", ".tif"), "NaturalImage2DIO"),
    ".tiff": "Tiff3DIO",
}
"""First reader in nnU-Net's list that takes files of that ending."""
_USUAL_ENDING = ".nii.gz"
_IN_PLANS = "image_reader_writer"
_IN_DATASET = "overwrite_image_reader_writer"


@dataclass(frozen=True)
class TrainingReader:
    """Reader of a training's scans.

    Attributes
    ----------
    rule
        Value for the manifest, see :func:`segmaformer.runtime.scans.spacing.training_spacing`.
    orientation
        Axis codes that the reader reorients voxels to; None if it keeps them as stored.
    assumption
        A sentence if the plans name no reader, or dataset.json names another; else None.
    """

    rule: Reader
    orientation: str | None
    assumption: str | None = None


def training_reader(
    plans: Mapping[str, Any], dataset: Mapping[str, Any] | None = None
) -> TrainingReader:
    """Find the reader of a training.

    Parameters
    ----------
    plans, dataset
        Contents of plans.json and dataset.json.

    Raises
    ------
    InputError
        The reader is unknown, or takes a format that packages do not.
    """
    planned = plans.get(_IN_PLANS)
    overwritten = (dataset or {}).get(_IN_DATASET)
    if overwritten in (None, "None"):
        overwritten = None
    if planned is not None:
        other = (
            None
            if overwritten in (None, planned)
            else f"Reader: {planned}, as plans.json says, although dataset.json says {overwritten}."
        )
        return _known(planned, "plans.json", other)
    if overwritten is not None:
        sentence = f"Reader: {overwritten}, as dataset.json says; plans.json names none."
        return _known(overwritten, "dataset.json", sentence)
    return _default(dataset)


def _default(dataset: Mapping[str, Any] | None) -> TrainingReader:
    ending = (dataset or {}).get("file_ending")
    stated = str(_USUAL_ENDING if ending is None else ending).lower()
    if stated not in _READER_OF_ENDING:
        raise InputError(
            f"plans.json names no reader, and dataset.json the file_ending {ending!r}; expected "
            f"one of {', '.join(_READER_OF_ENDING)}. Say in plans.json which reader the training "
            f"used ({_IN_PLANS})"
        )
    name = _READER_OF_ENDING[stated]
    sentence = f"Reader: {name}, nnU-Net's own choice for {stated}, as plans.json names none."
    return _known(name, "nnU-Net", sentence)


def _known(name: Any, where: str, assumption: str | None) -> TrainingReader:
    name = name if isinstance(name, str) else repr(name)
    if name in _OTHER_FORMATS:
        raise InputError(
            f"{where}: images were read with {name!r}, which takes {_OTHER_FORMATS[name]}; "
            f"packages take NIfTI, NRRD and MetaImage. Known: {', '.join(_READERS)}"
        )
    if name not in _READERS:
        raise InputError(
            f"{where}: images were read with {name!r}, whose rules for spacing and order of "
            f"axes are unknown; known: {', '.join(_READERS)}"
        )
    return TrainingReader(*_READERS[name], assumption)
