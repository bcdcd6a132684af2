"""Choice of the one series to segment, and advice where that is not clear."""

from __future__ import annotations

import itertools
import math
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from segmaformer.runtime.errors import GeometryError, InputError
from segmaformer.runtime.scans.dicom.candidates import (
    Candidate,
    are_parallel,
    find_candidates,
    why_no_stack,
)
from segmaformer.runtime.scans.dicom.image_file import Plane
from segmaformer.runtime.scans.dicom.keywords import SPLITTING, Condition
from segmaformer.runtime.scans.finding import Finding

_MOST_NAMED = 6
# Modalities whose images must state how stored numbers become intensities.
_SCALED = ("CT", "PT")


def choose(path: Path, where: Sequence[Condition] = ()) -> tuple[Candidate, tuple[Finding, ...]]:
    """Choose the only usable series of a folder or file.

    Parameters
    ----------
    path
        Folder or file.
    where
        Conditions on the images to look at.

    Returns
    -------
    candidate, remarks
        The series, and warnings about images that were left out.

    Raises
    ------
    InputError
        There is none, or more than one.
    GeometryError
        The only one forms no volume; the message says why, and what would choose one.
    """
    candidates = find_candidates(path, where)
    usable = [each for each in candidates if each.stack is not None]
    if len(usable) > 1:
        raise InputError(_several(path, usable))
    if not usable:
        raise _none(path, candidates, where)
    _check_left_out(path, usable[0], candidates)
    return usable[0], tuple(_remarks(usable[0], candidates))


def _none(path: Path, candidates: Sequence[Candidate], where: Sequence[Condition]) -> InputError:
    conditions = " ".join(map(str, where))
    met = f" that meet {conditions}" if where else ""
    if not candidates:
        return InputError(
            f"{path} holds no DICOM images{met}; `sgmf series {path}` lists its series"
            if where
            else f"{path} holds no DICOM images"
        )
    serious = [each for each in candidates if not each.no_volume] or candidates
    if len(serious) == 1:
        only = serious[0]
        text = f"{path}: {only.name}: {only.refusal}"
        kind = GeometryError if only.planes else InputError
        return kind(". ".join(filter(None, [text, advice(only)])))
    reasons = [f"{each.name}: {each.refusal}" for each in serious[:_MOST_NAMED]]
    more = f"; and {len(serious) - _MOST_NAMED} more" if len(serious) > _MOST_NAMED else ""
    advices = [*filter(None, map(advice, serious))][:1]
    return InputError(
        ". ".join([f"{path} holds no usable series{met}: {'; '.join(reasons)}{more}", *advices])
    )


def _several(path: Path, usable: Sequence[Candidate]) -> str:
    choices = distinguishing([each.planes for each in usable])
    chosen_by = [f", --where {shlex.quote(str(choice))}" for choice in choices]
    named = [
        f"{each.name}, {_size(each)}{by}"
        for each, by in zip(usable, chosen_by or [""] * len(usable), strict=True)
    ][:_MOST_NAMED]
    more = f"; and {len(usable) - _MOST_NAMED} more" if len(usable) > _MOST_NAMED else ""
    return (
        f"{path} holds {len(usable)} usable series: {'; '.join(named)}{more}. Choose one by "
        "--where KEYWORD=VALUE, or give its folder"
    )


def _size(candidate: Candidate) -> str:
    form = candidate.files[0].format
    rows, columns = (form.rows, form.columns) if form else (0, 0)
    return f"{columns}x{rows}x{len(candidate.planes)}"


def _check_left_out(path: Path, chosen: Candidate, candidates: Sequence[Candidate]) -> None:
    """Refuse a choice that may be a part: it leaves out other images of the same series.

    A single image of another orientation is a localizer that does not say so.
    """
    for other in candidates:
        if (
            other is not chosen
            and other.planes
            and other.series_uid == chosen.series_uid
            and (len(other.planes) > 1 or are_parallel(other.planes[0], chosen.planes[0]))
        ):
            choices = distinguishing([chosen.planes, other.planes])
            by = [f"Choose images by --where {shlex.quote(str(each))}, or take" for each in choices]
            raise GeometryError(
                f"{path}: {chosen.name}: {len(chosen.planes)} images form a volume, but "
                f"{len(other.planes)} more of the series do not fit: modality, frame of reference, "
                f"orientation, rows, columns or spacing differ. {[*by, 'Take'][0]} the others away"
            )


def _remarks(chosen: Candidate, candidates: Sequence[Candidate]) -> Iterator[Finding]:
    first = chosen.planes[0]
    if chosen.files[0].modality in _SCALED and not first.values("RescaleIntercept"):
        yield Finding(
            "warn",
            f"{chosen.name}, states no RescaleIntercept; stored numbers are taken as intensities",
            "Check that air and tissue have the intensities that you expect.",
        )
    for other in candidates:
        if other is chosen:
            continue
        count = len(other.planes) or len(other.files)
        images = "1 image" if count == 1 else f"{count} images"
        yield Finding(
            "note" if other.no_volume else "warn",
            f"{images} of {other.name}, left out: {other.refusal}",
            f"Check that {chosen.name} is the series that you mean.",
        )


def advice(candidate: Candidate) -> str:
    """Return as a sentence what would choose a volume among these images; empty if nothing."""
    if any(plane.file.fault for plane in candidate.planes):
        return ""
    choices = [*itertools.islice(splitting(candidate.planes), 3)]
    if not choices:
        several = len({plane.position_mm for plane in candidate.planes}) < len(candidate.planes)
        return "Put the images of one volume into a folder of their own" if several else ""
    named = ", or ".join(f"--where {shlex.quote(str(choice))}" for choice in choices)
    return f"Choose one volume by {named}"


def splitting(planes: Sequence[Plane]) -> Iterator[Condition]:
    """Return conditions that choose a volume among images that are none together.

    All are on one attribute: the plainest one whose values divide all images into volumes.
    """
    for keyword in SPLITTING:
        parts: dict[str, list[Plane]] = defaultdict(list)
        for plane in planes:
            for value in plane.values(keyword):
                parts[value].append(plane)
        found = [
            Condition(keyword, value)
            for value, part in parts.items()
            if 1 < len(part) < len(planes) and why_no_stack(part)[1] is not None
        ]
        if found and sum(len(parts[each.value]) for each in found) >= len(planes):
            yield from found
            return
    for keyword in _RISING:
        if found := [*_runs(planes, keyword)]:
            yield from found
            return


def _runs(planes: Sequence[Plane], keyword: str) -> Iterator[Condition]:
    """Return ranges of an attribute's numbers that choose volumes, if they follow one another."""
    numbered = sorted((_first_number(plane, keyword), i) for i, plane in enumerate(planes))
    count = len({plane.position_mm for plane in planes})
    if count == len(planes) or not all(math.isfinite(number) for number, _ in numbered):
        return
    for at in range(0, len(numbered), count):
        run, after = numbered[at : at + count], numbered[at + count : at + count + 1]
        part = [planes[index] for _, index in run]
        is_alone = not after or after[0][0] > run[-1][0]
        if not is_alone or len(part) < 2 or why_no_stack(part)[1] is None:
            return
        first, last = part[0].values(keyword)[0], part[-1].values(keyword)[0]
        yield Condition(keyword, f"{first}..{last}")


def _first_number(plane: Plane, keyword: str) -> float:
    try:
        return float(plane.values(keyword)[0])
    except (IndexError, ValueError):
        return math.inf


def distinguishing(groups: Sequence[Sequence[Plane]]) -> list[Condition]:
    """Return a condition for each group of images that only it meets; none if there is none."""
    for keyword in (*("SeriesNumber", "SeriesInstanceUID", "Modality"), *SPLITTING, *_SIZES):
        values = [{"\\".join(plane.values(keyword)) for plane in group} for group in groups]
        alone = [next(iter(each)) for each in values if len(each) == 1]
        if len(alone) == len(groups) == len(set(alone)) and all(alone):
            return [Condition(keyword, value) for value in alone]
    return []


_SIZES = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
_RISING = ("InstanceNumber", "TriggerTime", "AcquisitionTime", "ContentTime")
