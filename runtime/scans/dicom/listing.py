"""List of a folder's series, ready for JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segmaformer.runtime.scans.dicom.candidates import Candidate, find_candidates
from segmaformer.runtime.scans.dicom.choice import advice, distinguishing
from segmaformer.runtime.scans.dicom.keywords import parse_conditions
from segmaformer.runtime.scans.dicom.opening import as_input_errors
from segmaformer.runtime.scans.volume import spacing_of

_LEAST_TILT_DEGREES = 0.05


def list_series(path: Path, where: Sequence[str] = ()) -> list[dict[str, Any]]:
    """List candidates, the usable ones first.

    Parameters
    ----------
    path
        Folder or file.
    where
        Conditions ``KEYWORD=VALUE`` on the images to look at.

    Returns
    -------
    list of dict
        Candidates with ``number``, ``description``, ``modality``, ``series_uid``, ``images``,
        ``shape`` (columns, rows, images), ``spacing_mm``, ``tilt_degrees`` (None, as the two before
        it, for images that form no volume), ``usable``, ``reason`` why it is not and what would
        choose a usable part, and ``where``: the condition that chooses it among the usable ones,
        quoted for a shell; empty if there is no need or no such condition.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    conditions = parse_conditions(where)
    with as_input_errors(path):
        candidates = find_candidates(path, conditions)
    usable = [each for each in candidates if each.stack is not None]
    others = [each for each in candidates if each.stack is None]
    choices = distinguishing([each.planes for each in usable]) if len(usable) > 1 else []
    named = [shlex.quote(str(choice)) for choice in choices] or [""] * len(usable)
    listed = [_describe(each, choice) for each, choice in zip(usable, named, strict=True)]
    return listed + [_describe(each, "") for each in others]


def _describe(candidate: Candidate, where: str) -> dict[str, Any]:
    first, stack, form = candidate.files[0], candidate.stack, candidate.files[0].format
    count = len(candidate.planes) or len(candidate.files)
    reasons = [] if stack else [candidate.refusal, advice(candidate)]
    return {
        "number": first.number,
        "description": first.description,
        "modality": first.modality,
        "series_uid": first.series_uid,
        "images": count,
        "shape": [form.columns, form.rows, count] if form and stack else None,
        "spacing_mm": [*spacing_of(stack.affine)] if stack else None,
        "tilt_degrees": _tilt(stack.tilt_degrees) if stack else None,
        "usable": stack is not None,
        "reason": ". ".join(filter(None, reasons)),
        "where": where,
    }


def _tilt(degrees: float) -> float:
    """Return a tilt, without what rounded positions leave of it."""
    return round(degrees, 3) if degrees >= _LEAST_TILT_DEGREES else 0.0
