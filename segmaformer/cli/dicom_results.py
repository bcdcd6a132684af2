"""DICOM results of the command: their options, and what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import click

from segmaformer.cli.cases import Case
from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import say
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.results.dicom.segments import (
    MANY_FRAMES,
    SegmentationType,
    uncoded_names,
)

segmentation_type_option = click.option(
    "--segmentation-type",
    type=NamedChoice(get_args(SegmentationType)),
    help="Type of a DICOM segmentation: binary, the default, which every viewer takes, or "
    "labelmap, which is smaller where there are many labels.",
)
dicom_report_option = click.option(
    "--dicom-report",
    is_flag=True,
    help="Write each label's volume as a DICOM report (SR) beside the DICOM segmentation.",
)


def check_dicom_results(manifest: Manifest, cases: Sequence[Case]) -> None:
    """Check that a package's results can be DICOM if they shall be, and name labels without codes.

    Raises
    ------
    click.UsageError
        The regions of the package overlap, and a DICOM label map holds one for each voxel.
    """
    kinds = {case.segmentation_type for case in cases} - {None}
    if "labelmap" in kinds and manifest.output.regions:
        raise click.UsageError(
            f"the regions of {manifest.name} overlap, and a DICOM label map holds one for each "
            "voxel; leave --segmentation-type out"
        )
    uncoded = uncoded_names(manifest) if kinds else []
    if uncoded:
        say(
            f"the package has no code for {', '.join(uncoded)}; the DICOM segmentation tells what "
            "they are by name alone (sgmf export --codes gives codes)"
        )


def tell_of_frames(
    manifest: Manifest, cases: Sequence[Case], results: Sequence[Mapping[str, Any]]
) -> None:
    """Say once that the other type is smaller, if a binary segmentation has many frames."""
    if manifest.output.regions or not any(case.segmentation_type == "binary" for case in cases):
        return
    most = max((result.get("segmentation_frames", 0) for result in results), default=0)
    if most > MANY_FRAMES:
        say(
            f"the DICOM segmentation has {most} frames, more than some viewers show; "
            "--segmentation-type labelmap has one for each slice and is smaller"
        )
