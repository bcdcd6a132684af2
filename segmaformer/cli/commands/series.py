"""``sgmf series``: list the DICOM series of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segmaformer.cli.console import print_json, print_line, print_rows
from segmaformer.cli.exit_codes import DONE, REFUSED
from segmaformer.cli.parameters import SCAN_PATH, json_option, where_option
from segmaformer.runtime.scans.dicom.listing import list_series
from segmaformer.runtime.system.extras import require_extra

_COLUMNS = ("series", "modality", "images", "shape", "spacing in mm", "tilt", "use")


@click.command("series")
@click.argument("folder", type=SCAN_PATH)
@where_option
@json_option
def command(folder: Path, where: tuple[str, ...], as_json: bool) -> int:
    """List the DICOM series of FOLDER and those below it, and tell which ones can be segmented.

    A series that can be used is named with the --where that chooses it. One that cannot is named
    with the reason. The exit code is 3 if none can be used.
    """
    require_extra("pydicom", extra="dicom")
    series = list_series(folder, where)
    if as_json:
        print_json({"folder": str(folder), "series": series})
    elif not series:
        print_line(f"{folder} holds no DICOM images")
    else:
        print_rows([_COLUMNS, *map(_row, series)])
    return DONE if any(each["usable"] for each in series) else REFUSED


def _row(series: dict[str, Any]) -> tuple[str, ...]:
    shape, spacing_mm, tilt = series["shape"], series["spacing_mm"], series["tilt_degrees"]
    name = " ".join(filter(None, (series["number"], series["description"])))
    choice = f"--where {series['where']}" if series["where"] else "yes"
    return (
        name or "-",
        series["modality"] or "-",
        str(series["images"]),
        "x".join(map(str, shape)) if shape else "-",
        " x ".join(f"{edge:g}" for edge in spacing_mm) if spacing_mm else "-",
        f"{tilt:.1f} deg" if tilt else "-",
        choice if series["usable"] else f"no: {series['reason']}",
    )
