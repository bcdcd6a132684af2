"""Spacing of a scan as the reader of a network's training took it.

A file may state its voxels' edges twice, in its affine and beside it, in a unit that readers may
ignore. The network learned with the spacing that its training's reader took: this decides the
network's grid and volumes. The affine alone decides where voxels lie; only where a header has none
do readers' defaults differ.

Behaviour of ``nnunetv2`` 2.8.1, nibabel 5.4, SimpleITK 2.5 and MONAI 1.6.
"""

from __future__ import annotations

import math

import nibabel
import numpy as np

from segmaformer.runtime.scans.volume import Affine, StatedSpacing, Volume, axis_codes, spacing_of
from segmaformer.runtime.spec import Reader, Spacing

TOLERANCE = 0.01
"""Share of a voxel edge by which two statements of it may differ."""


def training_spacing(
    affine: Affine, stated: StatedSpacing | None, reader: Reader | None
) -> Spacing:
    """Return voxel edges along the stored axes, in millimetres as far as the reader knew.

    Parameters
    ----------
    affine
        Matrix (4, 4) from voxel indices to millimetres.
    stated
        Edges that the file states beside the affine; None uses the affine's for all readers.
    reader
        * ``nibabel``: the edges stated beside the affine, in any unit
        * ``nibabel_reoriented``: the same for a scan stored as RAS, else the lengths of the
          affine's columns, in any unit: nibabel rewrites the header of a scan that it reorients
        * ``simpleitk``: the edges stated beside the affine, in millimetres
        * ``monai``: the lengths of the affine's columns, in any unit
        * None: the lengths of the affine's columns, in millimetres

        Only NIfTI has units other than millimetres.
    """
    if reader is None or stated is None:
        return spacing_of(affine)
    if reader == "simpleitk":
        return stated.spacing_mm
    if reader == "nibabel" or (reader == "nibabel_reoriented" and axis_codes(affine) == "RAS"):
        return stated.edges
    if reader == "monai":
        x, y, z = (edge / stated.mm_per_unit for edge in spacing_of(affine))
        return x, y, z
    lengths = np.linalg.norm(affine[:3, :3] / stated.mm_per_unit, axis=0)
    x, y, z = lengths.astype(np.float32 if stated.single else np.float64).tolist()
    return x, y, z


def training_affine(volume: Volume, reader: Reader | None) -> Affine:
    """Return the affine (4, 4) by which a training's reader saw the axes run.

    It is the scan's own, but for a NIfTI whose header has neither sform nor qform: there nibabel
    lets the axes run towards left, anterior and superior, and ITK towards left, posterior and
    superior.
    """
    header = volume.header
    if reader != "simpleitk" or not isinstance(header, nibabel.Nifti1Header):
        return volume.affine
    if header["sform_code"] or header["qform_code"]:
        return volume.affine
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*volume.spacing_mm, 1.0])


def known_spacings(volume: Volume, reader: Reader | None) -> dict[str, Spacing]:
    """Return voxel edges by their source: one, or more if they differ.

    Returns
    -------
    dict
        ``reader``, as the training's reader took it. If any two differ by more than `TOLERANCE`,
        also ``affine``, and ``header`` if the file states edges beside it; both in millimetres.
    """
    used = training_spacing(volume.affine, volume.stated_spacing, reader)
    others = {"affine": volume.spacing_mm}
    if volume.stated_spacing is not None:
        others["header"] = volume.stated_spacing.spacing_mm
    agree = all(np.allclose(other, used, rtol=TOLERANCE, atol=0) for other in others.values())
    return {"reader": used} if agree else {"reader": used, **others}


def voxel_volumes(volume: Volume, reader: Reader | None) -> dict[str, float]:
    """Compute a voxel's volume in mm3 for each of :func:`known_spacings`; axes may be sheared."""
    columns = np.linalg.norm(volume.affine[:3, :3], axis=0)
    sheared = abs(float(np.linalg.det(volume.affine[:3, :3] / columns)))
    spacings = known_spacings(volume, reader)
    return {source: sheared * math.prod(edges) for source, edges in spacings.items()}
