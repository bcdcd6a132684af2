"""HTML page of a segmentation, in one file and without network access.

The page holds the scan and the labels, so it is as confidential as they are. Its content security
policy forbids every connection and every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from segmaformer.runtime.results.display_planes import (
    DISPLAY_ORIENTATION,
    NOTICE,
    network_window,
    robust_window,
    telling_centre,
)
from segmaformer.runtime.results.palette import label_colours
from segmaformer.runtime.results.report_fragments import (
    ReportLabel,
    as_html,
    fact_cards,
    plane_sections,
    product_text,
    statistics_table,
)
from segmaformer.runtime.results.report_voxels import IntensityScale, PackedVoxels, pack_voxels
from segmaformer.runtime.scans.volume import Reorientation, orient_to, tilt_degrees
from segmaformer.runtime.spec import Spacing
from segmaformer.runtime.system.atomic import Target, atomic_file

if TYPE_CHECKING:
    from segmaformer.runtime.results.segmentation import Segmentation

VOXEL_BYTES = 39_000_000
"""Default size of the voxels in bytes, for a page of 40 MB with little else."""

CT_WINDOWS = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "liver": (-30.0, 150.0),
    "mediastinum": (-125.0, 225.0),
}
"""Common windows of CT, lower and upper end in Hounsfield units."""

_SCRIPTS = ("voxels.js", "planes.js", "tools.js", "viewer.js")
_NOTABLE_TILT_DEGREES = 5.0
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def write_report(
    path: Target,
    segmentation: Segmentation,
    run_manifest: Mapping[str, Any] | None = None,
    *,
    statistics: Mapping[str, Any] | None = None,
    channel: int = 0,
    voxel_bytes: int = VOXEL_BYTES,
    names: bool = False,
) -> None:
    """Write the report of a segmentation as HTML, atomically.

    Slices scroll in three planes with the labels over them, beside the statistics; below are facts
    about the scan and the package, and the record of the run.

    Parameters
    ----------
    path
        File to write.
    segmentation
        Labels, scan, names and origin.
    run_manifest
        Record of the run, JSON-like; None shows the backend and the seconds of each stage.
    statistics
        Result of ``segmentation.statistics()``, if it is known; None measures.
    channel
        Index of the channel to show.
    voxel_bytes
        Largest size of scan and labels in the page, in bytes. A larger scan is averaged in blocks,
        and the page says so; statistics are always those of the whole scan.
    names
        Show the names of the scan's files. Pages are passed on, and names may be patients'.

    Raises
    ------
    ValueError
        There is no such channel, or `voxel_bytes` is too small for one voxel.
    OSError
        `path` cannot be written, see :func:`~segmaformer.runtime.system.atomic.unfinished_file`.
    """
    channels = len(segmentation.volume.voxels)
    if not 0 <= channel < channels:
        raise ValueError(f"channel is {channel}; the scan has {channels}, counted from 0")
    page = _draw(
        segmentation,
        segmentation.statistics() if statistics is None else statistics,
        run_manifest if names else _without_names(run_manifest),
        channel=channel,
        voxel_bytes=voxel_bytes,
        names=names,
    )
    with atomic_file(path) as stream:
        stream.write(page)


@dataclass(frozen=True)
class _Scene:
    """Content of the page, with axes in the order of display.

    `image` and `labels` (X, Y, Z), the `turn` that reordered them, their `spacing_mm`, the `scale`
    of their intensities, the initial `window` and others to choose from, by name.
    """

    image: np.ndarray
    labels: np.ndarray
    turn: Reorientation
    spacing_mm: Spacing
    scale: IntensityScale
    window: tuple[float, float]
    windows: Mapping[str, tuple[float, float]]


def _draw(
    segmentation: Segmentation,
    statistics: Mapping[str, Any],
    run_manifest: Mapping[str, Any] | None,
    *,
    channel: int,
    voxel_bytes: int,
    names: bool,
) -> bytes:
    scene = _arrange(segmentation, channel)
    packed = pack_voxels(
        scene.image,
        scene.labels,
        scene.scale,
        spacing_mm=scene.spacing_mm,
        budget_bytes=voxel_bytes,
    )
    found = _found_labels(statistics)
    style, script = _style_and_script()
    source = segmentation.volume.source
    parts = {
        "policy": _policy(*content_hashes(style, script)),
        "style": style,
        "script": script,
        "title": as_html(source[0].name if names and source else "Scan"),
        "subtitle": as_html(f"{segmentation.manifest.name}  ·  {segmentation.backend}"),
        "notice": NOTICE,
        "planes": plane_sections(),
        "shown": as_html(_what_is_shown(segmentation, packed, channel)),
        "statistics": statistics_table(statistics, found),
        "facts": fact_cards(segmentation, run_manifest, names=names),
        "scene": _json(_scene_document(scene, packed, found, segmentation.volume.affine)),
        "image": packed.image.decode("ascii"),
        "labels": packed.labels.decode("ascii"),
    }
    # A single pass, so that braces in a file's name are never taken for a placeholder.
    page = _PLACEHOLDER.sub(lambda match: parts[match[1]], _file("page.html"))
    return page.encode("utf-8")


def _without_names(run: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a run's record without the names of the files that were read, but with hashes."""
    if run is None or not isinstance(files := run.get("scan"), list):
        return run
    kept = [
        {key: value for key, value in file.items() if key != "name"}
        if isinstance(file, Mapping)
        else file
        for file in files
    ]
    return {**run, "scan": kept}


def _arrange(segmentation: Segmentation, channel: int) -> _Scene:
    volume = segmentation.volume
    turn = orient_to(volume.affine, DISPLAY_ORIENTATION)
    image = turn.apply(volume.voxels[channel])
    normalization = segmentation.manifest.preprocessing.normalization[channel]
    lower, upper = network_window(normalization) or robust_window(image)
    window = (lower, upper if upper > lower else lower + 1.0)
    return _Scene(
        image,
        turn.apply(segmentation.labels),
        turn,
        turn.apply_to_spacing(volume.spacing_mm),
        IntensityScale.fit(image, window),
        window,
        CT_WINDOWS if normalization.scheme == "ct" else {},
    )


def _found_labels(statistics: Mapping[str, Any]) -> list[ReportLabel]:
    """List the labels that are not empty, in order of value, as in the packed voxels."""
    found = [entry for entry in statistics["labels"] if entry["voxel_count"]]
    colours = label_colours(max((entry["value"] for entry in found), default=0))
    return [ReportLabel(entry, tuple(colours[entry["value"] - 1].tolist())) for entry in found]


def _scene_document(
    scene: _Scene, packed: PackedVoxels, found: list[ReportLabel], affine: np.ndarray
) -> dict[str, Any]:
    """Return the script's facts about the voxels, with axes in the order of display."""
    centre = telling_centre(scene.labels)
    return {
        "shape": packed.shape,
        "spacing_mm": [
            step * factor for step, factor in zip(scene.spacing_mm, packed.factors, strict=True)
        ],
        "centre": [index // factor for index, factor in zip(centre, packed.factors, strict=True)],
        "stored": {
            "extents": scene.labels.shape,
            "factors": packed.factors,
            "axes": scene.turn.axes,
            "reverse": scene.turn.reverse,
            "affine": affine.tolist(),
        },
        "intensities": scene.scale.table(),
        "window": scene.window,
        "windows": scene.windows,
        "labels": [label.colour for label in found],
        "label_bytes": packed.label_bytes,
    }


def _what_is_shown(segmentation: Segmentation, packed: PackedVoxels, channel: int) -> str:
    channels = segmentation.manifest.preprocessing.channels
    sentences = ["Intensities are shown in 256 steps."]
    if len(channels) > 1:
        sentences.append(f"Channel {channel + 1} of {len(channels)}: {channels[channel]}.")
    tilt = tilt_degrees(segmentation.volume.affine)
    if tilt > _NOTABLE_TILT_DEGREES:
        sentences.append(
            f"Planes follow the scan's axes, tilted by up to {tilt:.0f} degrees against the "
            "patient's; letters give the nearest directions."
        )
    if max(packed.factors) > 1:
        blocks = product_text(packed.factors)
        sentences.append(
            f"To keep this page small, a pixel stands for {blocks} voxels of the scan (left-right, "
            "front-back, head-foot): the mean of their intensities and the label of one."
        )
    return " ".join(sentences)


def allowed_sources() -> tuple[str, str]:
    """Return what a content security policy must allow to show a report in a frame.

    Returns
    -------
    style, script : str
        Source of each, such as ``'sha256-...'`` with its quotes.
    """
    return content_hashes(*_style_and_script())


def content_hashes(style: str, script: str) -> tuple[str, str]:
    """Return the sources of a style and a script for a content security policy."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    return f"'sha256-{style_hash}'", f"'sha256-{script_hash}'"


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows these sources only, and no connection."""
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; "
        "base-uri 'none'; form-action 'none'"
    )


def _style_and_script() -> tuple[str, str]:
    return _file("style.css"), "".join(map(_file, _SCRIPTS))


def _json(document: dict[str, Any]) -> str:
    """Convert to JSON that no HTML parser mistakes for a tag."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _file(name: str) -> str:
    """Read a file in ``runtime/results/report_page``."""
    return (resources.files("segmaformer.runtime.results") / "report_page" / name).read_text(
        encoding="utf-8"
    )
