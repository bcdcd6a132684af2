"""Models that the service offers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.progress import Progress, Report
from segmaformer.runtime.results.segmentation import Segmentation


class Segment(Protocol):
    """Function that segments a scan; `dicom` asks for one to which a DICOM result can refer.

    `warn` is called with each warning about the scan. It raises InputError for a scan that cannot
    be segmented, and CancelledError after `cancel` was set.
    """

    def __call__(
        self,
        files: list[Path],
        *,
        dicom: bool,
        warn: Report,
        progress: Progress,
        cancel: threading.Event,
    ) -> Segmentation:
        """Segment the scan in these files or folders, one for each channel."""
        ...


@dataclass(frozen=True)
class Model:
    """An open package.

    Attributes
    ----------
    name
        Name in requests.
    manifest, manifest_sha256
        Manifest of the package, and its SHA-256.
    segment
        Segments with it.
    """

    name: str
    manifest: Manifest
    manifest_sha256: str
    segment: Segment

    def document(self) -> dict[str, Any]:
        """Describe the model, JSON-ready."""
        output = self.manifest.output
        return {
            "name": self.name,
            "package": self.manifest.name,
            "package_sha256": self.manifest_sha256,
            "channels": list(self.manifest.preprocessing.channels),
            "labels": {label.name: label.value for label in output.labels},
        }
