"""Results of a scan as bytes: label map, DICOM segmentation, statistics or report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segmaformer.runtime.results.report import write_report
from segmaformer.runtime.results.segmentation import DICOM_SUFFIX, Segmentation
from segmaformer.runtime.scans.formats import label_map_suffix
from segmaformer.runtime.system.atomic import UnfinishedFile

_Maker = Callable[[Segmentation, Sequence[str]], tuple[str, str, bytes]]
ResultKind = Literal["labels", "segmentation", "statistics", "report"]


@dataclass(frozen=True)
class Result:
    """A file to answer with.

    Attributes
    ----------
    kind
        Kind that was asked for.
    media_type
        Its type for HTTP.
    name
        Name for a file of it.
    content
        The file's bytes.
    """

    kind: ResultKind
    media_type: str
    name: str
    content: bytes


def result_of(segmentation: Segmentation, kind: ResultKind, warnings: Sequence[str]) -> Result:
    """Make a result of a segmentation; the scan's files must still be there.

    Parameters
    ----------
    segmentation
        Labels of the scan.
    kind
        Kind of result.
    warnings
        Warnings about the scan, which statistics and report repeat.

    Raises
    ------
    InputError, SgmfError, MissingExtraError
        As for :func:`~segmaformer.runtime.results.dicom.segmentation_object.segmentation_object`.
    """
    return Result(kind, *_MAKERS[kind](segmentation, warnings))


def _labels(segmentation: Segmentation, _: Sequence[str]) -> tuple[str, str, bytes]:
    source = segmentation.volume.source
    suffix = label_map_suffix(source[0] if source else Path())
    return "application/octet-stream", f"labels{suffix}", segmentation.to_bytes(suffix)


def _dicom_segmentation(segmentation: Segmentation, _: Sequence[str]) -> tuple[str, str, bytes]:
    name = f"segmentation{DICOM_SUFFIX}"
    return "application/dicom", name, segmentation.to_bytes(DICOM_SUFFIX)


def _statistics(segmentation: Segmentation, warnings: Sequence[str]) -> tuple[str, str, bytes]:
    document = {
        "package": segmentation.manifest.name,
        "package_sha256": segmentation.package_sha256,
        "backend": segmentation.backend,
        "mirrored_axes": list(segmentation.mirrored_axes),
        "seconds": segmentation.seconds,
        "warnings": [*warnings],
        "statistics": segmentation.statistics(),
    }
    return "application/json", "statistics.json", json.dumps(document, indent=2).encode()


def _report(segmentation: Segmentation, warnings: Sequence[str]) -> tuple[str, str, bytes]:
    content = io.BytesIO()
    run = {"backend": segmentation.backend, "seconds": segmentation.seconds}
    run |= {"warnings": [*warnings]} if warnings else {}
    write_report(UnfinishedFile(Path("report.html"), content), segmentation, run)
    return "text/html; charset=utf-8", "report.html", content.getvalue()


_MAKERS: dict[ResultKind, _Maker] = {
    "labels": _labels,
    "segmentation": _dicom_segmentation,
    "statistics": _statistics,
    "report": _report,
}
