"""First stage of nnU-Net's cascade, found beside the second and checked against it.

nnU-Net trains ``3d_cascade_fullres`` with the labels of ``3d_lowres`` as further channels. Both are
trainings of one plans.json, in folders side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segmaformer.checkpoint.folds import is_model_folder, load_folds
from segmaformer.checkpoint.loading import Checkpoint
from segmaformer.runtime.errors import InputError


def with_previous_stage(
    checkpoint: Checkpoint, folder: str | Path | None = None, **folds: Any
) -> Checkpoint:
    """Add a cascade's first stage to its second.

    Parameters
    ----------
    checkpoint
        The second stage, from its trained-model folder or a file of it. Other networks are returned
        as they are if there is no `folder`.
    folder
        Trained-model folder of the first stage; None takes that beside the second's.
    **folds
        ``folds`` and ``checkpoint_name``, see :func:`segmaformer.checkpoint.load_folds`.

    Raises
    ------
    InputError
        There is no first stage, or it has other plans, labels or channels; or a `folder` is given
        for a network that is no second stage.
    FileNotFoundError
        A fold of the first stage is missing.
    """
    if checkpoint.plan is None or checkpoint.plan.previous is None:
        if folder is None:
            return checkpoint
        raise InputError(
            f"{checkpoint.path} is no second stage of a cascade, so it takes no labels of "
            f"{folder}; leave --previous-stage out"
        )
    place = _beside(checkpoint, checkpoint.plan.previous) if folder is None else Path(folder)
    if not is_model_folder(place):
        raise InputError(
            f"{checkpoint.path} is the second stage of a cascade and takes the labels of "
            f"{checkpoint.plan.previous}, and there is no trained-model folder {place}; give that "
            f"training: sgmf export {checkpoint.path} --previous-stage FOLDER"
        )
    first = load_folds(place, **folds)
    complaints = "; ".join(_differences(first, checkpoint))
    if complaints:
        raise InputError(
            f"{place} is not the first stage of {checkpoint.path}: {complaints}. Give the "
            f"{checkpoint.plan.previous} that it was trained with (--previous-stage FOLDER)"
        )
    return dataclasses.replace(checkpoint, first=first)


def _beside(checkpoint: Checkpoint, configuration: str) -> Path:
    """Return nnU-Net's folder of another configuration of the same trainer and plans."""
    path = checkpoint.path.absolute()
    folder = path if path.is_dir() else path.parent.parent
    return folder.with_name(f"{folder.name.rpartition('__')[0]}__{configuration}")


def _differences(first: Checkpoint, second: Checkpoint) -> Iterator[str]:
    assert second.plan is not None
    expected = dataclasses.replace(
        second.plan, configuration=second.plan.previous or "", previous=None
    )
    if first.plan != expected:
        yield f"it is {_named(first)}; expected {expected.configuration} of the plans " + (
            f"{expected.plans} and the data set {expected.dataset}"
        )
    if first.output != second.output:
        yield "it has other labels: " + ", ".join(label.name for label in first.output.labels)
    if first.preprocessing.channels != second.preprocessing.channels:
        yield f"it has other channels: {', '.join(first.preprocessing.channels)}"


def _named(checkpoint: Checkpoint) -> str:
    plan = checkpoint.plan
    if plan is None:
        return "without plans"
    return f"{plan.configuration} of the plans {plan.plans} and the data set {plan.dataset}"
