"""Continuation of a batch: which scans have their results already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import click

from segmaformer.cli.bare_options import BareOption
from segmaformer.cli.cases import Case
from segmaformer.cli.choices import NamedChoice
from segmaformer.runtime.results.dicom.segments import SegmentationType
from segmaformer.runtime.results.run_record import is_done

Resume = Literal["same-labels", "strict"]
"""Agreement with a record: in all that decides the labels, or also in versions and threads."""

resume_option = click.option(
    "--resume",
    cls=BareOption,
    bare="same-labels",
    type=NamedChoice(get_args(Resume)),
    metavar="[=strict]",
    help="Skip scans whose results are there and were made in the same way. With =strict, versions "
    "and threads must be the same too, and every file is read again to compare it.",
)


def divide_done(
    cases: Sequence[Case],
    resume: Resume | None,
    *,
    backend: str,
    settings: Mapping[SegmentationType | None, Mapping[str, Any]],
    any_backend: bool = False,
) -> tuple[list[Case], list[Case]]:
    """Divide cases into those whose results are there and the others.

    Parameters
    ----------
    resume
        How far records must agree; None takes no scan for done.
    backend, settings
        What the open predictor would record, by type of segmentation.
    any_backend
        Whether records of another backend and device count, unless `resume` is strict.
    """
    done: list[Case] = []
    left: list[Case] = []
    for case in cases:
        finished = (
            resume is not None
            and case.refusal is None  # else the path may not be a file
            and all(map(os.path.exists, case.results[1:]))  # the label map's size is looked up
            and is_done(
                case.record,
                settings[case.segmentation_type],
                scan=case.scan,
                label_map=case.label_map,
                strict_backend=backend if resume == "strict" else None,
                any_backend=any_backend,
            )
        )
        (done if finished else left).append(case)
    return done, left
