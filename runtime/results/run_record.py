"""Record beside every label map: its scan, package, software and times.

It answers years later where a label map came from, and lets an interrupted batch continue: a result
counts as done only if scan, package and label map are the recorded ones.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.digest import file_facts
from segmaformer.runtime.spec import KeepLargest
from segmaformer.runtime.system.atomic import Target
from segmaformer.runtime.system.digest import sha256_of


def run_record(
    segmentation: Segmentation,
    *,
    scan: Sequence[Path],
    label_map: Target,
    package: Package,
    ensemble: Sequence[Package] = (),
    where: Sequence[str] = (),
    keep_tilt: bool = False,
    segmentation_type: str | None = None,
) -> dict[str, Any]:
    """Describe one finished run, JSON-ready.

    Parameters
    ----------
    segmentation
        Result of the predictor.
    scan
        Files that were read, or folders of DICOM files; one for each channel.
    label_map
        File that was written, or is about to be finished.
    package
        Package that the predictor ran.
    ensemble
        All packages of an ensemble, `package` among them; empty for one package.
    where
        Conditions that chose a DICOM series.
    keep_tilt
        Whether the network saw tilted series as they are.
    segmentation_type
        Type of a DICOM segmentation; None for label maps of other formats.
    """
    return {
        "package": _signed_facts(package),
        "ensemble": [_signed_facts(each) for each in ensemble],
        "backend": segmentation.backend,
        "mirrored_axes": list(segmentation.mirrored_axes),
        "scan": [file_facts(path) for path in scan],
        "where": list(where),
        "keep_tilt": keep_tilt,
        "segmentation_type": segmentation_type,
        "postprocessing": _steps(segmentation.postprocessing),
        "postprocessing_left_out": _steps(package.manifest.postprocessing)
        if not segmentation.postprocessing
        else [],
        **_replacement_facts(segmentation),
        "label_map_sha256": sha256_of(label_map),
        "seconds": segmentation.seconds,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": {name: version(name) for name in ("segmaformer", "onnxruntime", "numpy")},
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def is_done(
    record: Path,
    *,
    scan: Sequence[Path],
    label_map: Path,
    package: Package,
    backend: str,
    ensemble: Sequence[Package] = (),
    mirrored_axes: Sequence[int] = (),
    nan_to: float | None = None,
    where: Sequence[str] = (),
    keep_tilt: bool = False,
    segmentation_type: str | None = None,
    postprocessing: Sequence[KeepLargest] = (),
) -> bool:
    """Tell if `record` describes such a run of this package on these very files.

    A record that is missing, damaged or of other content gives False.
    """
    try:
        document = json.loads(record.read_bytes())
        return (
            _unsigned(document["package"]) == _package_facts(package)
            and [_unsigned(facts) for facts in document.get("ensemble", [])]
            == [_package_facts(each) for each in ensemble]
            and document["backend"] == backend
            and document["mirrored_axes"] == list(mirrored_axes)
            and document.get("nan_to") == nan_to
            and document.get("where", []) == list(where)
            and document.get("keep_tilt", False) == keep_tilt
            and document.get("segmentation_type") == segmentation_type
            and document.get("postprocessing", []) == _steps(postprocessing)
            and document["scan"] == [file_facts(path) for path in scan]
            and document["label_map_sha256"] == sha256_of(label_map)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _replacement_facts(segmentation: Segmentation) -> dict[str, Any]:
    """Describe the value and number of replaced NaN and infinite voxels, or return None."""
    replacement = segmentation.volume.replacement
    return {
        "nan_to": None if replacement is None else replacement.value,
        "replaced_voxels": None if replacement is None else replacement.voxels,
    }


def _steps(postprocessing: Sequence[KeepLargest]) -> list[str]:
    return [str(step) for step in postprocessing]


def _package_facts(package: Package) -> dict[str, str]:
    return {"name": package.manifest.name, "manifest_sha256": package.manifest_sha256}


def _signed_facts(package: Package) -> dict[str, Any]:
    """Add the trusted key that signed a package, which is null where none is trusted."""
    signer = None if package.signer is None else dataclasses.asdict(package.signer)
    return {**_package_facts(package), "signature": signer}


def _unsigned(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out the key: it changes no label."""
    return {name: value for name, value in facts.items() if name != "signature"}
