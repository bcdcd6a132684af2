"""Calibration scan on the network's grid, with its label map if there is one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segmaformer.calibration.scores.segmentation_scores import structures
from segmaformer.runtime.errors import BudgetError, InputError
from segmaformer.runtime.package.manifest import LARGEST_LABEL, Manifest
from segmaformer.runtime.pipeline.preprocessing import Preprocessed
from segmaformer.runtime.pipeline.scan_image import ScanOptions, read_scan_image
from segmaformer.runtime.pipeline.tiling import pad_to_tile
from segmaformer.runtime.progress import Report
from segmaformer.runtime.scans.channels import ScanCase
from segmaformer.runtime.scans.formats import SUFFIXES, read_header, read_labels
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Output, Triple
from segmaformer.runtime.system.memory import default_budget_bytes

_LABEL_BYTES = 24
"""Bytes for each voxel while a label map is read: float32, rounded, sorted, int64, and masks."""


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """Preprocessed intensities and labels, padded to at least a tile.

    Attributes
    ----------
    image
        Shape (C, D, H, W), float32.
    labels
        Shape (D, H, W), int64, the nearest label of the label map; None without one.
    """

    image: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(default=None, repr=False)

    @property
    def shape(self) -> Triple:
        """Number of voxels along D, H and W."""
        _, depth, height, width = self.image.shape
        return depth, height, width


def prepare_scan(
    case: ScanCase,
    manifest: Manifest,
    labels: Path | None = None,
    *,
    options: ScanOptions = ScanOptions(),  # noqa: B008  (frozen)
    report: Report = lambda line: None,
) -> PreparedScan:
    """Read and preprocess a scan as inference does.

    Parameters
    ----------
    case
        Name and files of the scan.
    manifest
        Manifest of the package.
    labels
        Folder that may hold a label map named like the case.
    options
        Choices about reading.
    report
        Called with each warning about the files.

    Raises
    ------
    InputError, GeometryError, BudgetError
        The scan or its label map cannot be used; the message says why.
    """
    if case.refusal is not None:
        raise InputError(case.refusal)
    spec, tile = manifest.preprocessing, manifest.tiling.tile
    scan = read_scan_image(case.files, spec, tile, options)
    for remark in scan.volume.remarks:
        report(f"{case.name}: warning: {remark.what}. {remark.fix}")
    for name, channel in zip(spec.channels, scan.prepared.image, strict=True):
        if not np.isfinite(channel).all():
            raise InputError(
                f"channel {name} is NaN or infinite after normalisation; check its intensities"
            )
    path = None if labels is None else label_file(labels, case.name)
    if path is None:
        return PreparedScan(scan.image)
    label_map = read_label_map(path, scan.volume, manifest.output)
    if scan.straightening is not None:
        label_map = scan.straightening.straight_labels(label_map)
    label_map = _on_grid(label_map, scan.prepared)
    return PreparedScan(scan.image, pad_to_tile(label_map[None], tile)[0][0])


def label_file(folder: Path, name: str) -> Path | None:
    """Return the label map of a case in `folder`; None if there is none."""
    paths = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def read_label_map(path: Path, scan: Volume, output: Output) -> np.ndarray:
    """Read the label map of a scan.

    Returns
    -------
    np.ndarray
        Shape (X, Y, Z) in the scan's storage order, int64.

    Raises
    ------
    InputError
        The file cannot be read, lies on another grid, or holds values that are no labels, or no
        label of `output` besides others.
    """
    header = read_header(path)
    if header.shape != scan.shape or not np.allclose(header.affine, scan.affine, atol=1e-3):
        raise InputError(f"the label map {path} lies on another grid than its scan")
    needed, budget = _LABEL_BYTES * math.prod(header.shape), default_budget_bytes()
    if needed > budget:
        raise BudgetError("label maps", budget, needed)
    labels = read_labels(path)
    values: np.ndarray = labels.voxels[0]
    if not 0 <= values.min() <= values.max() <= LARGEST_LABEL or (values != np.rint(values)).any():
        raise InputError(
            f"{path} holds values that are no labels; expected 0, 1 and so on up to {LARGEST_LABEL}"
        )
    found = set(np.unique(values).astype(int).tolist()) - {0}
    known = {value for united in structures(output).values() for value in united}
    if found and not found & known:
        raise InputError(
            f"{path} holds the labels {_listed(found)}; the package has {_listed(known)}. Give "
            "label maps with the package's values"
        )
    return values.astype(np.int64)


def _listed(values: set[int]) -> str:
    return ", ".join(map(str, sorted(values)[:10])) + (", ..." if len(values) > 10 else "")


def _on_grid(labels: np.ndarray, prepared: Preprocessed) -> np.ndarray:
    """Return the nearest label for each voxel of ``prepared.image``."""
    cropped = prepared.reorientation.apply(labels)[prepared.box]
    nearest = [
        ((np.arange(extent) + 0.5) * (source / extent)).astype(int)
        for extent, source in zip(prepared.image.shape[1:], cropped.shape, strict=True)
    ]
    found: np.ndarray = cropped[np.ix_(*nearest)]
    return found
