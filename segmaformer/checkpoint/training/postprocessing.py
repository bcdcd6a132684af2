"""Postprocessing that nnU-Net determined for a training, from its postprocessing.json.

``nnUNetv2_find_best_configuration`` writes it beside the predictions of the cross-validation, once
as JSON and once as a pickle of functions. A pickle can run code and is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segmaformer.checkpoint.fields import integer, listing, mapping, sequence
from segmaformer.checkpoint.training.documents import read_json
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import KeepLargest, Output

_FUNCTION = "remove_all_but_largest_component_from_segmentation"
_NAME = "postprocessing.json"
_CHOICE = "give one (--postprocessing FILE), or leave it out (--no-postprocessing)"


def find_postprocessing(folder: Path, folds: Sequence[str]) -> Path | None:
    """Find the postprocessing.json of a trained-model folder.

    Parameters
    ----------
    folder
        nnU-Net's ``TRAINER__PLANS__CONFIGURATION``.
    folds
        Folds of the export: of several cross-validations, theirs is taken.

    Returns
    -------
    Path or None
        The file; None if nnU-Net determined none.

    Raises
    ------
    InputError
        There are several and none is for these folds, or a pickle alone.
    """
    places = [folder, *sorted(folder.glob("crossval_results_folds_*"))]
    found = [place / _NAME for place in places if (place / _NAME).is_file()]
    own = [file for file in found if file.parent.name.endswith(f"_folds_{'_'.join(folds)}")]
    if len(found) > 1 and len(own) != 1:
        raise InputError(f"{folder} has {listing(map(str, found))}; {_CHOICE}")
    pickles = [place / "postprocessing.pkl" for place in places]
    if not found and (alone := [file for file in pickles if file.is_file()]):
        raise InputError(f"{alone[0]} is a pickle, which can run code, without its JSON; {_CHOICE}")
    return next(iter(own or found), None)


def read_postprocessing(path: Path, output: Output) -> tuple[KeepLargest, ...]:
    """Read the steps of a postprocessing.json.

    Parameters
    ----------
    path
        The file.
    output
        Labels that steps may name.

    Raises
    ------
    InputError
        It is a pickle or no JSON, names another function than nnU-Net's, or labels that the
        network does not have.
    """
    if path.suffix in (".pkl", ".pickle"):
        raise InputError(
            f"{path} is a pickle, which can run code; give the {_NAME} that "
            "nnUNetv2_find_best_configuration wrote beside it"
        )
    document = read_json(path)
    functions = sequence(document.get("postprocessing_fns"), f"{path}: postprocessing_fns")
    where = f"{path}: postprocessing_kwargs"
    arguments = sequence(document.get("postprocessing_kwargs"), where, length=len(functions))
    for function in functions:
        if function != _FUNCTION:
            raise InputError(f"{path}: unknown function {function!r}; known: {_FUNCTION}")
    values = {label.value for label in output.labels} - {0}
    return tuple(
        _step(mapping(given, f"{where}[{index}]"), f"{where}[{index}]", values)
        for index, given in enumerate(arguments)
    )


def _step(given: Any, where: str, values: set[int]) -> KeepLargest:
    if unknown := set(given) - {"labels_or_regions", "background_label"}:
        raise InputError(f"{where} has {listing(sorted(unknown))}, which {_FUNCTION} does not know")
    if given.get("background_label", 0) != 0:
        raise InputError(f"{where}: background_label is {given['background_label']!r}; expected 0")
    labels = _flat(given.get("labels_or_regions"), f"{where}.labels_or_regions")
    if not labels or not set(labels) <= values:
        raise InputError(
            f"{where} keeps the labels {listing(map(str, labels)) or 'none'}; the network has "
            f"{listing(map(str, sorted(values)))}. Give the file of this training"
        )
    return KeepLargest(labels)


def _flat(value: Any, where: str) -> tuple[int, ...]:
    """Unite labels and regions: nnU-Net keeps the largest component of all of them together."""
    if not isinstance(value, list):
        return (integer(value, where),)
    united = {label for entry in value for label in _flat(entry, where)}
    return tuple(sorted(united))
