"""Check of a scan before a network sees it: refusals, warnings and notes.

Reading refuses scans that cannot be segmented at all. The checks here also find scans that can be
segmented and yet will mislead: with units, offsets or orientations that some program lost, or of
another kind than the package was trained on. Their thresholds lie beyond the output of scanners,
so that a warning is rare and worth reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from segmaformer.runtime.checks.geometry import check_geometry
from segmaformer.runtime.checks.intensity import ScanSurvey, check_intensities, survey_scan
from segmaformer.runtime.checks.suitability import check_against_package
from segmaformer.runtime.errors import BudgetError, GeometryError, InputError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.admission import Admission
from segmaformer.runtime.scans.finding import LEVELS, Finding
from segmaformer.runtime.scans.formats import read_scan
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.system.memory import default_budget_bytes


def check_scan(
    scan: Volume | str | Path | Sequence[str | Path],
    manifest: Manifest | None = None,
    *,
    nan_to: float | None = None,
    budget_bytes: int | None = None,
    where: Sequence[str] = (),
) -> list[Finding]:
    """Check a scan on its own and, given a manifest, as input of that package.

    Intensities are surveyed in one pass, their distribution on a sample, so the time grows little
    faster than that of reading.

    Parameters
    ----------
    scan
        A volume, or the files to read it from: one, or one for each channel.
    manifest
        Manifest of the package that is to segment the scan.
    nan_to
        Replaces voxels that are NaN or infinite; None refuses such scans.
    budget_bytes
        Memory for files, in bytes: for their voxels and, given a manifest, for the whole
        prediction, as :class:`~segmaformer.runtime.pipeline.admission.Admission` counts it. None
        is half of the free memory. A volume is in memory already; the predictor decides whether
        the rest will fit.
    where
        Conditions ``KEYWORD=VALUE`` on the images of a folder with several DICOM series.

    Returns
    -------
    list of Finding
        Findings, the gravest first. An error of reading becomes the only finding, of level
        ``refuse``.

    Raises
    ------
    FileNotFoundError
        A file does not exist.
    """
    try:
        volume = _read(scan, manifest, budget_bytes, nan_to, where)
    except InputError as error:
        return [Finding("refuse", str(error), _remedy(error))]
    survey = survey_scan(volume.voxels)
    findings = [*_refusals(survey, manifest)]
    if not findings:
        findings += volume.remarks
        findings += [*check_geometry(volume, manifest), *check_intensities(volume.voxels, survey)]
        if manifest is not None:
            findings += check_against_package(volume, survey, manifest)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _read(
    scan: Volume | str | Path | Sequence[str | Path],
    manifest: Manifest | None,
    budget_bytes: int | None,
    nan_to: float | None,
    where: Sequence[str],
) -> Volume:
    if isinstance(scan, Volume):
        return scan if nan_to is None else scan.with_finite_voxels(nan_to)
    files = [scan] if isinstance(scan, str | Path) else scan
    budget = default_budget_bytes() if budget_bytes is None else budget_bytes
    if manifest is None:
        return read_scan(files, budget_bytes=budget, nan_to=nan_to, where=where)
    admission = Admission(manifest, budget)
    volume = admission.read(files, nan_to=nan_to, where=where)
    admission.check(volume)
    return volume


def _remedy(error: InputError) -> str:
    if isinstance(error, BudgetError):
        return "Check the header's shape and spacing. If they are right, give more memory."
    if isinstance(error, GeometryError):
        return "Correct the header's geometry, or convert the scan again from its source."
    return "Give another file, or convert the scan again from its source."


def _refusals(survey: ScanSurvey, manifest: Manifest | None) -> Iterator[Finding]:
    """Find what reading a file would have refused, for a volume from elsewhere."""
    given = len(survey.channels)
    if manifest is not None and given != len(manifest.preprocessing.channels):
        expected = manifest.preprocessing.channels
        yield Finding(
            "refuse",
            f"the scan has {given} channels; the model expects {len(expected)}",
            f"Give these channels, in this order: {', '.join(expected)}.",
        )
    for channel in survey.channels:
        if not channel.is_finite:
            yield Finding(
                "refuse",
                f"{channel.name} has voxels that are NaN or infinite; expected finite numbers",
                "Repair the step that produced the scan.",
            )
    if survey.box is None:
        yield Finding(
            "refuse",
            "every voxel is zero; there is nothing to segment",
            "Check the file and the step that produced it.",
        )
