"""Check of the position of a scan's voxels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.straightening import find_straightening
from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.spacing import known_spacings
from segmaformer.runtime.scans.volume import Affine, Volume, _degrees, _directions, tilt_degrees
from segmaformer.runtime.spec import Reader, Triple

USUAL_SPACING_MM = (0.1, 10.0)
MOST_ANISOTROPY = 8.0
MOST_OBLIQUE_DEGREES = 15.0
MOST_SKEW_DEGREES = 1.0
# Largest distance, in voxels, between grid corners by the two transforms of a NIfTI.
_FORM_TOLERANCE = 0.1
_WHY: dict[Reader | None, str] = {
    None: "the affine's, as the package does not say how its training read scans",
    "monai": "the affine's without its unit, as MONAI read the scans of the training",
    "nibabel": "the header's without its unit, as NibabelIO read the scans of the training",
    "nibabel_reoriented": "without the unit, as NibabelIOWithReorient read the scans of the "
    "training: the header's if the axes run towards RAS, else the affine's",
    "simpleitk": "the header's, as SimpleITK read the scans of the training",
}


def check_geometry(volume: Volume, manifest: Manifest | None = None) -> Iterator[Finding]:
    """Check spacing, directions and the header's transforms.

    Parameters
    ----------
    volume
        The scan.
    manifest
        Manifest of the package that is to segment the scan; it decides the scan's spacing.
    """
    yield from _check_spacing(volume)
    yield from _check_statements(volume, manifest)
    yield from _check_directions(volume)
    if isinstance(volume.header, nibabel.Nifti1Header):
        yield from _check_transforms(volume.header, volume.shape)


def _check_spacing(volume: Volume) -> Iterator[Finding]:
    spacing_mm = volume.spacing_mm
    text = _times(spacing_mm)
    least, most = USUAL_SPACING_MM
    if min(spacing_mm) < least or max(spacing_mm) > most:
        yield Finding(
            "warn",
            f"voxels measure {text} mm; expected edges from {least:g} to {most:g} mm",
            "Check the unit of the header's spacing: it may be metre, centimetre or micrometre.",
        )
    ratio = max(spacing_mm) / min(spacing_mm)
    if ratio > MOST_ANISOTROPY:
        yield Finding(
            "warn",
            f"voxels measure {text} mm, {ratio:.3g} times as long along one axis as along another; "
            "the anatomy between slices can only be guessed",
            "Use a reconstruction with thinner slices if there is one.",
        )
    if min(volume.shape) == 1:
        yield Finding(
            "warn",
            f"the scan has a single slice, its shape is {volume.shape}; expected a volume",
            "Give the whole series instead of one image of it.",
        )


def _check_directions(volume: Volume) -> Iterator[Finding]:
    straightening = find_straightening(volume)
    if straightening is None:
        yield from _check_oblique(volume.affine)
        yield from _check_right_angles(volume.affine)
        return
    yield from _check_oblique(straightening.affine)
    x, y, z = straightening.shape
    yield Finding(
        "warn",
        f"the images are tilted by {volume.header.tilt_degrees:.1f} degrees, as by the gantry; the "
        f"network sees them straightened, on a grid of {x} x {y} x {z} voxels, and labels lie on "
        "the original images",
        "Look at the result. --keep-tilt (keep_tilt in Python) shows the network the series as it "
        "is.",
    )


def _check_oblique(affine: Affine) -> Iterator[Finding]:
    oblique = tilt_degrees(affine)
    if oblique > MOST_OBLIQUE_DEGREES:
        yield Finding(
            "warn",
            f"the axes are tilted by up to {oblique:.0f} degrees against the patient's; the "
            "network sees the tilted slices",
            "The labels will fit the scan. If the model was trained on straight scans only, "
            "resample the scan to straight axes first.",
        )


def _check_right_angles(affine: Affine) -> Iterator[Finding]:
    directions = _directions(affine)
    between = (directions.T @ directions)[np.triu_indices(3, 1)]
    skew = 90 - _degrees(np.abs(between).max())
    if skew > MOST_SKEW_DEGREES:
        yield Finding(
            "warn",
            f"the axes are {skew:.0f} degrees away from right angles, as after a tilt of the "
            "gantry; the network sees sheared anatomy",
            "Convert the series with a correction of the gantry's tilt.",
        )


def _check_transforms(header: Any, shape: Triple) -> Iterator[Finding]:
    """Check both transforms of a NIfTI header, sform and qform, and which ones it declares."""
    has_sform, has_qform = bool(header["sform_code"]), bool(header["qform_code"])
    if not (has_sform or has_qform):
        yield Finding(
            "warn",
            "the header does not say how the scan lies in the patient, sform_code and "
            "qform_code are both 0; left and right may be exchanged",
            "Convert the scan again from its source, or set the right sform and its code.",
        )
    elif has_sform and has_qform:
        yield from _check_distance(header, shape)


def _check_distance(header: Any, shape: Triple) -> Iterator[Finding]:
    voxels = _form_distance(header, shape)
    if voxels > _FORM_TOLERANCE:
        yield Finding(
            "warn",
            f"the header's two transforms, sform and qform, lie up to {voxels:.3g} voxels apart; "
            "the sform says here where voxels lie, another program may use the qform",
            "Find out which one is right and set both to it.",
        )


def _check_statements(volume: Volume, manifest: Manifest | None) -> Iterator[Finding]:
    """Check voxel edges that a file states twice: in its affine, and beside it."""
    reader = None if manifest is None else manifest.preprocessing.reader
    spacings = known_spacings(volume, reader)
    if len(spacings) == 1:
        return
    affine, header = spacings["affine"], spacings.get("header", spacings["affine"])
    if manifest is None:
        used = "which of them a network sees depends on how its training read scans"
    else:
        edges = _times(spacings["reader"])
        used = f"the model's grid and the volumes go by {edges} mm, {_WHY[reader]}"
    yield Finding(
        "warn",
        f"the header states voxel edges of {_times(header)} mm, and its affine has "
        f"{_times(affine)} mm; {used}. The affine alone says where labels lie",
        "Find out which one is right and correct the other.",
    )


def _times(edges: Iterable[float]) -> str:
    return " x ".join(f"{edge:g}" for edge in edges)


def _form_distance(header: Any, shape: Triple) -> float:
    """Return the largest distance of a corner in both, in voxels; infinite if one is invalid."""
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except (HeaderDataError, ValueError):
        return np.inf
    corners = [*itertools.product(*((0, extent - 1) for extent in shape))]
    difference = (sform - qform)[:3]
    shifts = difference[:, :3] @ np.transpose(corners) + difference[:, 3:]
    edge = np.linalg.norm(sform[:3, :3], axis=0).min()
    return float(np.linalg.norm(shifts, axis=0).max() / edge)
