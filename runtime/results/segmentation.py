"""Result of a prediction: the label map on the scan's own grid, and its origin."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.results.statistics import label_statistics
from segmaformer.runtime.scans.formats import write_label_map
from segmaformer.runtime.scans.spacing import voxel_volumes
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import KeepLargest
from segmaformer.runtime.system.atomic import Target, UnfinishedFile

DICOM_SUFFIX = ".dcm"
"""Ending of a DICOM segmentation's file."""


@dataclass(frozen=True)
class Segmentation:
    """A label map with its scan.

    Attributes
    ----------
    labels
        Shape (X, Y, Z) in the scan's storage order, uint8 (uint16 above 255 labels).
    volume
        The scan that was segmented.
    manifest
        Manifest of the package that made it.
    backend
        Backend, device and variant that ran.
    seconds
        Wall time of each stage in seconds, by name.
    mirrored_axes
        Axes of the network's grid over whose mirror images the logits were averaged.
    package_sha256
        SHA-256 of the package's manifest, see
        :attr:`~segmaformer.runtime.package.reader.Package.manifest_sha256`.
    postprocessing
        Steps that were applied to the label map.
    """

    labels: np.ndarray
    volume: Volume
    manifest: Manifest
    backend: str
    seconds: dict[str, float]
    mirrored_axes: tuple[int, ...] = ()
    package_sha256: str = ""
    postprocessing: tuple[KeepLargest, ...] = ()

    @property
    def label_names(self) -> dict[int, str]:
        """Name of every label value except background.

        If regions overlap, a value stands for the part of its region that later ones left.
        """
        labels = self.manifest.output.labels
        return {label.value: label.name for label in labels if label.value != 0}

    def save(self, path: Target) -> None:
        """Write the label map on the scan's grid, atomically, in the format of the file ending.

        ``.dcm`` writes a DICOM segmentation of type binary, see
        :func:`~segmaformer.runtime.results.dicom.segmentation_object.write_segmentation_object`.
        """
        if Path(path).suffix.lower() == DICOM_SUFFIX:
            from segmaformer.runtime.results.dicom.segmentation_object import (
                write_segmentation_object,
            )

            write_segmentation_object(path, self)
        else:
            write_label_map(path, self.labels, like=self.volume)

    def to_bytes(self, suffix: str = ".nii.gz") -> bytes:
        """Return the file that :meth:`save` would write under a name with this ending.

        Raises
        ------
        ValueError
            The ending is of no format.
        """
        content = io.BytesIO()
        self.save(UnfinishedFile(Path(f"labels{suffix}"), content))
        return content.getvalue()

    def save_preview(self, path: Target, *, names: bool = False) -> None:
        """Write a PNG of three planes through the segmentation, on request with the scan's name."""
        from segmaformer.runtime.results.preview import write_preview

        write_preview(path, self, names=names)

    def statistics(self) -> dict[str, Any]:
        """Measure volume, voxel count, bounding box and intensity of every label, JSON-ready.

        A voxel's volume follows from the spacing that the network used; if the file states its
        spacing twice, and differently, all volumes are named.
        """
        return label_statistics(
            self.labels,
            self.volume.voxels,
            self.volume.affine,
            self.label_names,
            voxel_volumes(self.volume, self.manifest.preprocessing.reader),
        )
