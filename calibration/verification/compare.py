"""Comparison of a package with its answer at export, and of its variants with each other.

Without scans, each variant is compared with PyTorch's result for a phantom tile. With scans, whole
segmentations are compared with those of fp32 in ONNX Runtime on the CPU and with label maps, if
there are any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.calibration.prepared_scan import label_file, read_label_map
from segmaformer.calibration.scores.confidence import METHOD, mean_over_cases
from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.scores.segmentation_scores import Scores, score_labels, structures
from segmaformer.runtime.backends import BackendOptions, open_session
from segmaformer.runtime.checks.scan import check_scan
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import EXACT_VARIANT, PREVIOUS_STAGE, Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.parity.tile_parity import MIN_AGREEMENT, MIN_DICE, TileParity
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.predictor import Predictor, Prepared
from segmaformer.runtime.progress import Progress, Report
from segmaformer.runtime.scans.channels import ScanCase
from segmaformer.runtime.scans.formats import SUFFIXES
from segmaformer.runtime.scans.spacing import training_spacing
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Output
from segmaformer.runtime.tile_check import TileCheck, is_int8

GATE = Gate()
"""Gate over all cases; `largest_loss` holds for every variant and each structure's mean."""


@dataclass(frozen=True)
class Choice:
    """Variant and backend to run.

    Attributes
    ----------
    variant, backend
        See :func:`segmaformer.runtime.backends.open_session`.
    """

    variant: str
    backend: str


def verify_tile(
    package: Package,
    choices: Sequence[Choice],
    *,
    options: BackendOptions = BackendOptions(),  # noqa: B008  (frozen)
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Compare the logits of one phantom tile.

    Returns
    -------
    dict
        Document for JSON: ``reference`` as text and ``runs``, one for each choice, see
        :meth:`segmaformer.runtime.tile_check.TileCheck.run`. Of a cascade, those of its first
        network come first, and have ``stage``.

    Raises
    ------
    BackendError, EngineError
        A backend does not work on this machine.
    PackageError
        The stored reference cannot be used.
    """
    runs = []
    first = package.previous_stage()
    if first is not None:
        of_first = verify_tile(first, choices, options=options, report=report)
        runs = [{**run, "stage": PREVIOUS_STAGE} for run in of_first["runs"]]
    check = TileCheck(package, report)
    for choice in choices:
        session = open_session(
            package, backend=choice.backend, variant=choice.variant, options=options, report=report
        )
        report(f"{session.description}")
        runs.append(check.run(session, choice.variant))
    return {"reference": check.reference, "runs": runs}


@dataclass(eq=False)
class _Run:
    """Predictor, and its comparisons over the cases so far."""

    variant: str
    predictor: Predictor
    parity: TileParity
    scores: dict[str, dict[str, Scores]] = field(default_factory=dict)


def verify_cases(
    package: Package,
    choices: Sequence[Choice],
    cases: Sequence[ScanCase],
    *,
    labels: Path | None = None,
    reading: ScanOptions = ScanOptions(),  # noqa: B008  (frozen)
    options: BackendOptions = BackendOptions(),  # noqa: B008  (frozen)
    progress: Progress = lambda stage, done, count: None,
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Compare segmentations of whole scans.

    Parameters
    ----------
    package, choices, options
        Package, its variants and backends to compare, and options of the predictors.
    cases
        Scans from :func:`segmaformer.runtime.scans.channels.group_channels`. A case that cannot be
        used is reported and left out of every figure.
    labels
        Folder of label maps named like the cases.
    reading
        Choices about reading the scans.
    progress, report
        Called as work proceeds, and with a line of text about each notable fact.

    Returns
    -------
    dict
        Document for JSON: ``reference`` and ``confidence`` as texts, the fields of
        `reading`, ``cases`` (names), ``refused`` (reasons by name) and ``runs``: the reference,
        then each choice.

    Raises
    ------
    BackendError, EngineError
        A backend does not work on this machine, or failed on a scan.
    """
    chosen = [Choice(EXACT_VARIANT, "onnxruntime")]
    chosen += [choice for choice in choices if choice not in chosen]
    distinct: dict[str, _Run] = {}
    for choice in chosen:
        run = _open(package, choice, reading, options, report)
        # If `auto` picks a backend that runs already, one run is enough.
        distinct.setdefault(run.predictor.backend, run)
    runs = [*distinct.values()]
    done: list[str] = []
    refused: dict[str, str] = {}
    for index, case in enumerate(cases):
        try:
            _add_case(runs, case, labels, report)
            done.append(case.name)
        except (InputError, OSError) as error:
            refused[case.name] = str(error)
            report(f"{case.name}: {error}")
        progress("cases", index + 1, len(cases))
    return {
        "reference": runs[0].predictor.backend,
        "confidence": METHOD,
        **dataclasses.asdict(reading),
        "cases": done,
        "refused": refused,
        "runs": [_result(run, runs[0], package.manifest) for run in runs] if done else [],
    }


def _open(
    package: Package,
    choice: Choice,
    reading: ScanOptions,
    options: BackendOptions,
    report: Report,
) -> _Run:
    on_cpu = choice == Choice(EXACT_VARIANT, "onnxruntime")
    predictor = Predictor(
        package,
        choice.backend,
        variant=choice.variant,
        **dataclasses.asdict(reading),
        options=dataclasses.replace(options, device="cpu") if on_cpu else options,
        report=report,
    )
    report(predictor.backend)
    return _Run(choice.variant, predictor, TileParity(package.manifest.output))


def _add_case(runs: Sequence[_Run], case: ScanCase, labels: Path | None, report: Report) -> None:
    """Segment one case by all, then compare; it counts for all or for none."""
    prepared = _prepare(runs[0].predictor, case, report)
    output = runs[0].predictor.package.manifest.output
    truth = None if labels is None else _truth(labels, case, prepared.volume, output)
    found = [run.predictor.segment(prepared).labels for run in runs]
    for run, label_map in zip(runs, found, strict=True):
        run.parity.add_labels(label_map, found[0])
        if truth is not None:
            reader = runs[0].predictor.package.manifest.preprocessing.reader
            volume = prepared.volume
            spacing = training_spacing(volume.affine, volume.stated_spacing, reader)
            run.scores[case.name] = score_labels(label_map, truth, spacing, structures(output))


def _prepare(predictor: Predictor, case: ScanCase, report: Report) -> Prepared:
    if case.refusal is not None:
        raise InputError(case.refusal)
    prepared = predictor.prepare(case.files)
    for finding in check_scan(prepared.volume, predictor.package.manifest):
        if finding.level == "refuse":
            raise InputError(f"{case.files[0]}: {finding.what}. {finding.fix}")
        if finding.level == "warn":
            report(f"{case.name}: warning: {finding.what}. {finding.fix}")
    return prepared


def _truth(folder: Path, case: ScanCase, scan: Volume, output: Output) -> np.ndarray:
    path = label_file(folder, case.name)
    if path is None:
        raise InputError(
            f"there is no label map of {case.name} in {folder}; expected {case.name} with "
            f"{', '.join(SUFFIXES)}"
        )
    return read_label_map(path, scan, output)


def _result(run: _Run, reference: _Run, manifest: Manifest) -> dict[str, Any]:
    names = structures(manifest.output) if run.scores else {}
    summary = {name: _summary(run, reference, name) for name in names}
    return {
        "variant": run.variant,
        "backend": run.predictor.backend,
        "label_agreement": run.parity.agreement,
        "dice_with_reference": {str(label): dice for label, dice in run.parity.dice.items()},
        "structures": summary,
        "by_case": {
            case: {name: each.record() for name, each in scores.items()}
            for case, scores in run.scores.items()
        },
        "shortcomings": [*_label_shortcomings(run, manifest), *_losses(summary)],
    }


def _summary(run: _Run, reference: _Run, name: str) -> dict[str, Any]:
    """Return means over cases of one structure, and of its change against the reference."""
    own = [scores[name] for scores in run.scores.values()]
    its = [scores[name] for scores in reference.scores.values()]
    means = {
        "dice": mean_over_cases(each.dice for each in own),
        "hd95_mm": mean_over_cases(each.hd95_mm for each in own),
        "volume_error_ml": mean_over_cases(each.volume_error_ml for each in own),
        "volume_error_percent": mean_over_cases(each.volume_error_percent for each in own),
        "dice_change": mean_over_cases(
            _difference(a.dice, b.dice) for a, b in zip(own, its, strict=True)
        ),
        "hd95_change_mm": mean_over_cases(
            _difference(a.hd95_mm, b.hd95_mm) for a, b in zip(own, its, strict=True)
        ),
    }
    return {key: None if mean is None else dataclasses.asdict(mean) for key, mean in means.items()}


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _label_shortcomings(run: _Run, manifest: Manifest) -> list[str]:
    """List bounds of the gate of the variant's kind that are missed over all cases together."""
    int8 = is_int8(manifest, run.variant)
    least_dice = GATE.least_dice if int8 else MIN_DICE
    found = [
        f"Dice of label {label} with the reference is {dice:.5f} (at least {least_dice:g})"
        for label, dice in run.parity.dice.items()
        if dice < least_dice
    ]
    if not int8 and run.parity.agreement < MIN_AGREEMENT:
        found.append(f"{run.parity.agreement:.4%} of labels are equal (at least {MIN_AGREEMENT:%})")
    return found


def _losses(summary: dict[str, dict[str, Any]]) -> list[str]:
    changes = {name: each["dice_change"] for name, each in summary.items()}
    return [
        f"{name} loses {-change['value']:.4f} of Dice with the label maps "
        f"(at most {GATE.largest_loss:g})"
        for name, change in changes.items()
        if change is not None and change["value"] < -GATE.largest_loss
    ]
