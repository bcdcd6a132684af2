"""Candidates of a folder: groups of images that may be a volume, and why others are not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segmaformer.runtime.errors import GeometryError
from segmaformer.runtime.scans.dicom.folder import files_below
from segmaformer.runtime.scans.dicom.geometry import Stack, stack
from segmaformer.runtime.scans.dicom.image_file import ImageFile, Numbers, Plane
from segmaformer.runtime.scans.dicom.keywords import Condition, wanted_tags
from segmaformer.runtime.scans.dicom.reading import read_image_file
from segmaformer.runtime.system.interruption import check

# Differences that rounded texts leave, in direction cosines and as a share of the spacing.
_COSINE_TOLERANCE = 1e-3
_SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Candidate:
    """Images that share series, frame of reference, orientation, size and spacing.

    Attributes
    ----------
    files
        Files of the images, or without a known image.
    planes
        Images, in order if they form a volume.
    stack
        Their order and place; None if they form no volume.
    refusal
        Reason why they form no volume; empty if they do.
    """

    files: tuple[ImageFile, ...]
    planes: tuple[Plane, ...]
    stack: Stack | None
    refusal: str

    @property
    def series_uid(self) -> str:
        """UID of the series."""
        return self.files[0].series_uid

    @property
    def no_volume(self) -> bool:
        """True for images that make no volume at all, such as localizers."""
        return bool(self.files[0].no_volume)

    @property
    def name(self) -> str:
        """Name of the series for a message: number, description and modality."""
        first = self.files[0]
        number = f"series {first.number}" if first.number else "a series"
        described = f" ({first.description})" if first.description else ""
        return f"{number}{described}, {first.modality or 'no modality'}"


def find_candidates(path: Path, where: Sequence[Condition] = ()) -> list[Candidate]:
    """Divide the images of a folder and those below it, or of one file, into candidates.

    Parameters
    ----------
    path
        Folder or file. Files that are no DICOM are passed over, and so are links to folders and
        hidden files.
    where
        Conditions that images must meet to be looked at.

    Returns
    -------
    list of Candidate
        Usable ones and others, in order of their first files.

    Raises
    ------
    OSError
        A file cannot be read.
    """

    def meets(found: Plane | ImageFile) -> bool:
        return all(each.holds(found.values(each.keyword)) for each in where)

    wanted = wanted_tags(where)
    groups: dict[tuple[object, ...], list[_Group]] = defaultdict(list)
    faulty: dict[str, list[ImageFile]] = defaultdict(list)
    for file_path in files_below(path):
        check()
        found = read_image_file(file_path, wanted)
        if found is None:
            continue
        file, planes = found
        for plane in filter(meets, planes):
            _put(groups, plane)
        # A file that does not tell its series may belong to any, whatever the conditions.
        if planes or (file.has_series and not meets(file)):
            continue
        if file.fault:
            faulty[file.series_uid].append(file)
        else:
            key = file.series_uid, file.no_volume
            groups[key] = groups[key] or [_Group()]
            groups[key][0].files.append(file)
    return [*_candidates(groups, faulty)]


@dataclass
class _Group:
    """Images on their way to a candidate, or files without known images."""

    planes: list[Plane] = field(default_factory=list)
    files: list[ImageFile] = field(default_factory=list)

    def takes(self, plane: Plane) -> bool:
        first = self.planes[0]
        return are_parallel(first, plane) and all(
            math.isclose(a, b, rel_tol=_SPACING_TOLERANCE)
            for a, b in zip(first.spacing_mm, plane.spacing_mm, strict=True)
        )


def are_parallel(first: Plane, second: Plane) -> bool:
    """Tell if two images have the same orientation."""
    return _are_close(first.orientation, second.orientation)


def _are_close(first: Numbers, second: Numbers) -> bool:
    return all(abs(a - b) <= _COSINE_TOLERANCE for a, b in zip(first, second, strict=True))


def _put(groups: dict[tuple[object, ...], list[_Group]], plane: Plane) -> None:
    """Add an image to the group that it fits, or begin one with it."""
    file, form = plane.file, plane.file.format
    size = (form.rows, form.columns) if form else ()
    alike = groups[(file.series_uid, file.frame_of_reference_uid, size, file.modality)]
    group = next((each for each in alike if each.takes(plane)), None)
    if group is None:
        group = _Group()
        alike.append(group)
    group.planes.append(plane)


def _candidates(
    groups: dict[tuple[object, ...], list[_Group]], faulty: dict[str, list[ImageFile]]
) -> Iterator[Candidate]:
    uids = {
        group.planes[0].file.series_uid
        for alike in groups.values()
        for group in alike
        if group.planes
    }
    for alike in groups.values():
        for group in alike:
            if group.files:
                refusal = group.files[0].no_volume
                yield Candidate(tuple(group.files), (), None, refusal)
            else:
                uid = group.planes[0].file.series_uid
                unknown = [file for file in faulty[""] if not file.has_series]
                yield _candidate(group.planes, [*faulty[uid], *unknown])
    for uid, files in faulty.items():
        if files and uid not in uids:
            yield Candidate(tuple(files), (), None, f"{files[0].path.name}: {files[0].fault}")


def _candidate(planes: Sequence[Plane], faulty: Sequence[ImageFile]) -> Candidate:
    files = tuple({plane.file.path: plane.file for plane in planes}.values())
    fault = next((file for file in (*faulty, *files) if file.fault), None)
    if fault is not None:
        # No condition leaves out a file that does not tell its series.
        known = tuple(planes) if fault.has_series else ()
        return Candidate(files, known, None, f"{fault.path.name}: {fault.fault}")
    refusal, found = why_no_stack(planes)
    if found is not None and (unscaled := _why_unscaled(planes)):
        refusal, found = unscaled, None
    return Candidate(files, tuple(planes) if found is None else found.planes, found, refusal)


def _why_unscaled(planes: Sequence[Plane]) -> str:
    """Return why intensities are unknown: some images state a scaling, and some do not."""
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        count = sum(bool(plane.values(keyword)) for plane in planes)
        if 0 < count < len(planes):
            without = len(planes) - count
            return f"{without} of {len(planes)} images state no {keyword}, and the others do"
    return ""


def why_no_stack(planes: Sequence[Plane]) -> tuple[str, Stack | None]:
    """Return why images form no volume, or an empty reason and the stack that they form."""
    if len(planes) == 1:
        return "a single image; expected at least two, one behind the other", None
    try:
        return "", stack(planes)
    except GeometryError as error:
        return str(error), None
