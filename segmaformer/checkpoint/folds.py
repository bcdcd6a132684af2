"""nnU-Net's trained-model folder: the folds of one training as one network.

nnU-Net predicts with the mean of its folds' logits. Their files are read as any checkpoint is,
with the plans.json and dataset.json of the folder, and must agree in everything but weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segmaformer.checkpoint.fields import listing
from segmaformer.checkpoint.loading import Checkpoint, load_checkpoint
from segmaformer.models.ensemble import Ensemble
from segmaformer.runtime.errors import InputError

FOLDS = ("0", "1", "2", "3", "4")
"""Folds of nnU-Net's cross-validation, its default."""

CHECKPOINT_NAME = "checkpoint_final.pth"

_MUST_AGREE = (
    ("arch", "the network"),
    ("config", "the network's configuration"),
    ("output", "labels"),
    ("known_preprocessing", "preprocessing"),
    ("known_tiling", "tile or mirroring axes"),
    ("trainer", "the trainer"),
    ("plan", "plans"),
    ("recorded_plans", "the plans that their files record"),
    ("previous_stage", "labels of the previous stage"),
)


def is_model_folder(path: Path) -> bool:
    """Tell if `path` is a folder with a ``fold_*`` folder in it."""
    return path.is_dir() and any(entry.is_dir() for entry in path.glob("fold_*"))


def load_folds(
    folder: str | Path,
    *,
    folds: Sequence[str] = FOLDS,
    checkpoint_name: str = CHECKPOINT_NAME,
    **options: Any,
) -> Checkpoint:
    """Load folds of one training as one network, the mean of their logits.

    Parameters
    ----------
    folder
        nnU-Net's ``TRAINER__PLANS__CONFIGURATION``, with plans.json, dataset.json and a folder
        ``fold_N`` for each fold.
    folds
        Names after ``fold_``: numbers, or ``all``.
    checkpoint_name
        File in each of them.
    **options
        Arguments of :func:`segmaformer.checkpoint.load_checkpoint`.

    Returns
    -------
    Checkpoint
        `path` is the folder, `sha256` that of what ``sha256sum fold_*/NAME`` prints.

    Raises
    ------
    FileNotFoundError
        A fold or its checkpoint is missing; the text says what there is.
    ValueError
        No fold, one twice, or one that is no plain name.
    InputError
        Folds differ in more than weights, or a file cannot be used.
    """
    folder = Path(folder)
    files = [_fold_file(folder, fold, checkpoint_name) for fold in _checked(folds)]
    for key, name in (("plans", "plans.json"), ("dataset_json", "dataset.json")):
        if options.get(key) is None and (folder / name).is_file():
            options[key] = folder / name
    loaded = [load_checkpoint(file, **options) for file in files]
    first, *others = loaded
    for fold, other in zip(folds[1:], others, strict=True):
        _refuse_differences(first, other, f"fold_{folds[0]} and fold_{fold}")
    if not others:
        return first
    return dataclasses.replace(
        first,
        model=Ensemble([each.model for each in loaded]).eval(),
        parameters=sum(each.parameters for each in loaded),
        assumptions=(
            f"Mean of the logits of folds {', '.join(folds)}.",
            *dict.fromkeys(text for each in loaded for text in each.assumptions),
        ),
        path=folder,
        sha256=_digest(folder, files, loaded),
    )


def _checked(folds: Sequence[str]) -> Sequence[str]:
    if not folds or len(set(folds)) < len(folds):
        raise ValueError(f"folds are {listing(folds) or 'none'}; expected each once, such as 0,1,2")
    for fold in folds:
        if not (fold == "all" or (fold.isascii() and fold.isdigit())):
            raise ValueError(f"there is no fold {fold!r}; expected numbers, or all")
    return folds


def _fold_file(folder: Path, fold: str, name: str) -> Path:
    file = folder / f"fold_{fold}" / name
    if file.is_file():
        return file
    there = sorted(str(path.relative_to(folder)) for path in folder.glob("fold_*/*.pth"))
    raise FileNotFoundError(
        f"there is no {file.relative_to(folder)} in {folder}; it has {listing(there) or 'none'}. "
        "Choose folds (--folds) and the file (--checkpoint-name) among these"
    )


def _refuse_differences(first: Checkpoint, other: Checkpoint, which: str) -> None:
    for field, title in _MUST_AGREE:
        if getattr(first, field) != getattr(other, field):
            raise InputError(
                f"{which} differ in {title}, so they are of two trainings; give folds of one"
            )


def _digest(folder: Path, files: Sequence[Path], loaded: Sequence[Checkpoint]) -> str:
    lines = "".join(
        f"{each.sha256}  {file.relative_to(folder).as_posix()}\n"
        for file, each in zip(files, loaded, strict=True)
    )
    return hashlib.sha256(lines.encode()).hexdigest()
