"""Description of a checkpoint in plain values that a person or a program can read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from segmaformer.checkpoint.loading import Checkpoint, load_checkpoint


def describe_checkpoint(path: str | Path, *, weights: str | None = None) -> dict[str, Any]:
    """Load a checkpoint and describe its contents and the assumptions made about it.

    Parameters
    ----------
    path, weights
        See :func:`segmaformer.checkpoint.load_checkpoint`, which also names the errors.

    Returns
    -------
    dict
        Strings, numbers, lists and dictionaries; None for facts that the checkpoint does not
        record.
    """
    checkpoint = load_checkpoint(path, weights=weights)
    return {
        "checkpoint": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "network": checkpoint.arch,
        "parameters": checkpoint.parameters,
        "trainer": checkpoint.trainer,
        "licence": checkpoint.licence,
        "configuration": checkpoint.config,
        "preprocessing": _plain(checkpoint.known_preprocessing),
        "tiling": _plain(checkpoint.known_tiling),
        "output": "overlapping regions" if checkpoint.output.regions else "exclusive labels",
        "labels": _labels(checkpoint),
        "assumptions": list(checkpoint.assumptions),
    }


def _plain(record: Any) -> dict[str, Any] | None:
    return None if record is None else dataclasses.asdict(record)


def _labels(checkpoint: Checkpoint) -> dict[str, str]:
    named = checkpoint.output.regions or checkpoint.output.labels
    return {str(entry.value): entry.name for entry in named}
