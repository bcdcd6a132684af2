"""Segmentation of scans, each of which gets all of its results or none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, get_args

from segmaformer.cli.cases import Case
from segmaformer.cli.exit_codes import DONE, EXPECTED_ERRORS, exit_code, message_of
from segmaformer.runtime.checks.scan import check_scan
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.predictor import Predictor, Prepared
from segmaformer.runtime.progress import Progress, Report
from segmaformer.runtime.results.dicom.segments import SegmentationType
from segmaformer.runtime.results.run_record import run_record, run_settings
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.formats import write_probability
from segmaformer.runtime.system.atomic import UnfinishedFile, check_writable, unfinished_file
from segmaformer.runtime.system.overlap import run_overlapped
from segmaformer.runtime.system.unfinished import completing, remove_abandoned

ProgressBar = Callable[[str], AbstractContextManager[Progress]]


def segment_cases(
    predictor: Predictor | Ensemble,
    cases: Sequence[Case],
    progress_bar: ProgressBar,
    warn: Report,
    *,
    names: bool = False,
) -> Iterator[tuple[Case, dict[str, Any] | Exception]]:
    """Segment scans; each gets all of its results or none.

    Parameters
    ----------
    predictor
        Predictor for all scans.
    cases
        Scans and their result files.
    progress_bar
        Makes a progress bar for the scan of a given name.
    warn
        Called with each warning about a scan, see :mod:`segmaformer.runtime.checks.scan`.
    names
        Show the scans' file names in previews and reports.

    Yields
    ------
    case, document
        The case, and a document for JSON and the statistics file or the error. Its keys:
        ``scan``, ``output``, ``run``, ``dicom_report``, ``preview``, ``stats``, ``report`` and
        ``probabilities`` (paths; the last five if requested), ``segmentation_frames`` of a DICOM
        segmentation, ``package``, ``backend``, ``mirrored_axes``,
        ``seconds`` by stage and ``statistics``, see
        :func:`segmaformer.runtime.results.statistics.label_statistics`.
    """
    remove_leftovers(cases)
    return segment_each(predictor, cases, progress_bar, warn, names=names)


def remove_leftovers(cases: Sequence[Case]) -> None:
    """Remove files that killed processes left in the folders of the results."""
    for folder in {path.parent for case in cases for path in case.written}:
        remove_abandoned(folder)


def segment_each(
    predictor: Predictor | Ensemble,
    cases: Iterable[Case],
    progress_bar: ProgressBar,
    warn: Report,
    *,
    names: bool = False,
) -> Iterator[tuple[Case, dict[str, Any] | Exception]]:
    """Segment scans as :func:`segment_cases` does, taking one ahead from an iterator."""

    def prepare(case: Case) -> Prepared:
        return _prepare(predictor, case, warn)

    def work(case: Case, prepared: Prepared) -> tuple[Segmentation, ExitStack]:
        with progress_bar(case.name) as progress:
            segmentation = predictor.segment(prepared, progress=progress)
        with ExitStack() as unfinished:
            if case.probabilities:
                labels, paths = zip(*case.probabilities, strict=True)
                places = [unfinished.enter_context(unfinished_file(path)) for path in paths]
                with progress_bar(f"{case.name}, {', '.join(labels)}") as progress:
                    maps = predictor.probabilities(prepared, labels, progress=progress)
                    for place, values in zip(places, maps, strict=True):
                        write_probability(place, values, prepared.volume)
            return segmentation, unfinished.pop_all()

    def finish(case: Case, product: tuple[Segmentation, ExitStack]) -> dict[str, Any]:
        segmentation, unfinished = product
        with unfinished:
            document = _write(predictor, case, segmentation, unfinished, names=names)
            with completing():
                unfinished.close()
        return document

    return run_overlapped(cases, prepare=prepare, work=work, finish=finish, errors=EXPECTED_ERRORS)


def result_of(case: Case, outcome: dict[str, Any] | Exception) -> dict[str, Any]:
    """Return one entry of the summary; an error becomes part of it, so that a batch goes on."""
    if not isinstance(outcome, Exception):
        return {**outcome, "exit_code": DONE}
    return failed_result(case, message_of(outcome), exit_code(outcome))


def failed_result(case: Case, message: str, code: int) -> dict[str, Any]:
    """Return the entry of a scan that has no results."""
    return {"scan": [str(path) for path in case.scan], "error": message, "exit_code": code}


def all_settings(
    predictor: Predictor | Ensemble,
) -> dict[SegmentationType | None, dict[str, Any]]:
    """Return :func:`settings_of` a predictor for every type of segmentation."""
    return {kind: settings_of(predictor, kind) for kind in (None, *get_args(SegmentationType))}


def settings_of(
    predictor: Predictor | Ensemble, segmentation_type: SegmentationType | None
) -> dict[str, Any]:
    """Describe all that decides the labels of a scan, see :func:`run_settings`."""
    return run_settings(
        predictor.package,
        [dataclasses.asdict(network) for network in predictor.networks],
        ensemble=predictor.packages if isinstance(predictor, Ensemble) else (),
        mirrored_axes=predictor.mirrored_axes,
        nan_to=predictor.nan_to,
        where=predictor.where,
        keep_tilt=predictor.keep_tilt,
        segmentation_type=segmentation_type,
        postprocessing=predictor.postprocessing,
    )


def _prepare(predictor: Predictor | Ensemble, case: Case, warn: Report) -> Prepared:
    """Read and preprocess a scan, unless its results could not be written or it is refused."""
    if case.refusal is not None:
        raise InputError(case.refusal)
    # Report a folder that cannot be written to before the long work.
    for path in case.written:
        check_writable(path)
    return prepare_scan(
        predictor,
        case.scan,
        lambda message: warn(f"{case.name}: warning: {message}"),
        dicom=case.segmentation_type is not None,
    )


def prepare_scan(
    predictor: Predictor | Ensemble, scan: Sequence[Path], warn: Report, *, dicom: bool
) -> Prepared:
    """Read and preprocess a scan, and check that it suits the package.

    Parameters
    ----------
    scan
        Its files or folders.
    warn
        Called with each warning about it.
    dicom
        Whether its result shall be DICOM.

    Raises
    ------
    InputError
        It cannot be used, or no DICOM result could refer to it.
    """
    prepared = predictor.prepare(scan)
    if dicom:
        from segmaformer.runtime.results.dicom.source import check_series

        check_series(prepared.volume)
    for finding in check_scan(prepared.volume, predictor.package.manifest):
        if finding.level == "refuse":
            raise InputError(f"{scan[0]}: {finding.what}. {finding.fix}")
        if finding.level == "warn":
            warn(f"{finding.what}. {finding.fix}")
    return prepared


def _write(
    predictor: Predictor | Ensemble,
    case: Case,
    segmentation: Segmentation,
    unfinished: ExitStack,
    *,
    names: bool,
) -> dict[str, Any]:
    """Write all results but probabilities into files that are named when `unfinished` ends."""
    document = {
        **_paths(case),
        "package": segmentation.manifest.name,
        "backend": segmentation.backend,
        "mirrored_axes": list(segmentation.mirrored_axes),
        "seconds": segmentation.seconds,
        "statistics": segmentation.statistics(),
    }
    maps = {path for _, path in case.probabilities}
    places = {
        path: unfinished.enter_context(unfinished_file(path))
        for path in case.written
        if path not in maps
    }
    _write_label_map(case, segmentation, places, document)
    record = run_record(
        segmentation,
        settings_of(predictor, case.segmentation_type),
        scan=case.scan,
        label_map=places[case.label_map],
    )
    _write_json(places[case.record], record)
    if case.preview is not None:
        segmentation.save_preview(places[case.preview], names=names)
    if case.statistics is not None:
        _write_json(places[case.statistics], document)
    if case.report is not None:
        from segmaformer.runtime.results.report import write_report

        write_report(
            places[case.report],
            segmentation,
            record,
            statistics=document["statistics"],
            names=names,
        )
    return document


def _write_label_map(
    case: Case,
    segmentation: Segmentation,
    places: Mapping[Path, UnfinishedFile],
    document: dict[str, Any],
) -> None:
    """Write the label map; if it is DICOM, also the report, and add facts to `document`."""
    if case.segmentation_type is None:
        segmentation.save(places[case.label_map])
        return
    # Imported here to keep the start of scans of other formats short.
    from segmaformer.runtime.results.dicom.measurement_report import write_measurement_report
    from segmaformer.runtime.results.dicom.segmentation_object import write_segmentation_object

    written = write_segmentation_object(
        places[case.label_map], segmentation, case.segmentation_type
    )
    document["segmentation_frames"] = int(written.NumberOfFrames)
    if case.dicom_report is not None:
        write_measurement_report(
            places[case.dicom_report], segmentation, written, document["statistics"]
        )


def _write_json(file: UnfinishedFile, document: dict[str, Any]) -> None:
    file.stream.write(json.dumps(document, indent=2).encode() + b"\n")


def _paths(case: Case) -> dict[str, Any]:
    named: dict[str, Path | None] = {
        "output": case.label_map,
        "run": case.record,
        "dicom_report": case.dicom_report,
        "preview": case.preview,
        "stats": case.statistics,
        "report": case.report,
    }
    present: dict[str, Any] = {key: str(path) for key, path in named.items() if path is not None}
    if case.probabilities:
        present["probabilities"] = {label: str(path) for label, path in case.probabilities}
    return {"scan": [str(path) for path in case.scan], **present}
