"""Record beside every label map: its scan, package, software and times.

It answers years later where a label map came from, and lets an interrupted batch continue: a result
counts as done only if scan, label map and all that decides the labels are the recorded ones.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.digest import file_facts, is_unchanged
from segmaformer.runtime.spec import KeepLargest
from segmaformer.runtime.system.atomic import Target
from segmaformer.runtime.system.digest import file_size_and_time, sha256_of

_USUAL_BYTES = 1 << 16
"""A record is smaller."""


def run_settings(
    package: Package,
    networks: Sequence[Mapping[str, str]],
    *,
    ensemble: Sequence[Package] = (),
    mirrored_axes: Sequence[int] = (),
    nan_to: float | None = None,
    where: Sequence[str] = (),
    keep_tilt: bool = False,
    segmentation_type: str | None = None,
    postprocessing: Sequence[KeepLargest] = (),
) -> dict[str, Any]:
    """Describe all that decides the labels of a scan, JSON-ready.

    Parameters
    ----------
    package
        Package that the predictor runs.
    networks
        Backend, device, variant and precision of every network.
    ensemble
        All packages of an ensemble, `package` among them; empty for one package.
    mirrored_axes
        Axes over whose mirror images the logits are averaged.
    nan_to
        Value that replaces NaN and infinite voxels; None refuses them.
    where
        Conditions that choose a DICOM series.
    keep_tilt
        Whether the network sees tilted series as they are.
    segmentation_type
        Type of a DICOM segmentation; None for label maps of other formats.
    postprocessing
        Steps that are applied to the label map.
    """
    left_out = () if postprocessing else package.manifest.postprocessing
    return {
        "package": _package_facts(package),
        "ensemble": [_package_facts(each) for each in ensemble],
        "networks": [dict(network) for network in networks],
        "mirrored_axes": list(mirrored_axes),
        "nan_to": nan_to,
        "where": list(where),
        "keep_tilt": keep_tilt,
        "segmentation_type": segmentation_type,
        "postprocessing": _steps(postprocessing),
        "postprocessing_left_out": _steps(left_out),
    }


def run_record(
    segmentation: Segmentation,
    settings: Mapping[str, Any],
    *,
    scan: Sequence[Path],
    label_map: Target,
) -> dict[str, Any]:
    """Describe one finished run, JSON-ready.

    Parameters
    ----------
    segmentation
        Result of the predictor.
    settings
        From :func:`run_settings`.
    scan
        Files that were read, or folders of DICOM files; one for each channel.
    label_map
        File that was written, or is about to be finished.
    """
    replacement = segmentation.volume.replacement
    return {
        **settings,
        "backend": segmentation.backend,
        "scan": [file_facts(path) for path in scan],
        "replaced_voxels": None if replacement is None else replacement.voxels,
        "label_map": file_size_and_time(label_map),
        "label_map_sha256": sha256_of(label_map),
        "seconds": segmentation.seconds,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": _software(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def is_done(
    record: Path,
    settings: Mapping[str, Any],
    *,
    scan: Sequence[Path],
    label_map: Path,
    strict_backend: str | None = None,
    any_backend: bool = False,
) -> bool:
    """Tell if `record` describes a run with these settings on these very files.

    A file of the recorded size and time of change counts as the recorded one; otherwise its SHA-256
    decides. A record that is missing, damaged or of other content gives False.

    Parameters
    ----------
    record
        JSON file from :func:`run_record`.
    settings, scan, label_map
        As for :func:`run_record`.
    strict_backend
        Backend with version and threads that the record must name, with the software's versions;
        all files are hashed. None compares neither, since they do not decide the labels.
    any_backend
        Whether the record may name another backend and device, as where both were chosen by their
        speed: variant and precision must still agree.
    """
    strict = strict_backend is not None
    # The keys that signed a package change no label.
    left_out = {"signature", *(("backend", "device") if any_backend and not strict else ())}
    try:
        document = json.loads(_content(record))
        recorded = {key: document[key] for key in settings}
        return (
            (recorded == settings or _alike(recorded, settings, left_out))
            and (not strict or document["backend"] == strict_backend)
            and (not strict or document["software"] == _software())
            and len(document["scan"]) == len(scan)
            and all(
                is_unchanged(path, facts, rehash=strict)
                for path, facts in zip(scan, document["scan"], strict=True)
            )
            and _is_label_map(label_map, document, rehash=strict)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_label_map(path: Path, document: Mapping[str, Any], *, rehash: bool) -> bool:
    found, recorded = file_size_and_time(path), document["label_map"]
    if found == recorded and not rehash:
        return True
    same_size: bool = found["bytes"] == recorded["bytes"]
    return same_size and document["label_map_sha256"] == sha256_of(path)


def _software() -> dict[str, str]:
    from importlib.metadata import version  # takes long to load

    return {name: version(name) for name in ("segmaformer", "onnxruntime", "numpy")}


def _steps(postprocessing: Sequence[KeepLargest]) -> list[str]:
    return [str(step) for step in postprocessing]


def _package_facts(package: Package) -> dict[str, Any]:
    """Describe a package and the trusted key that signed it, which is null where none is."""
    signer = None if package.signer is None else dataclasses.asdict(package.signer)
    return {
        "name": package.manifest.name,
        "manifest_sha256": package.manifest_sha256,
        "signature": signer,
    }


def _content(record: Path) -> bytes:
    """Read a file in one call if it is small, since a cohort has many: a stream takes several."""
    descriptor = os.open(record, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        content = os.read(descriptor, _USUAL_BYTES)
    finally:
        os.close(descriptor)
    return content if len(content) < _USUAL_BYTES else record.read_bytes()


def _alike(recorded: Mapping[str, Any], settings: Mapping[str, Any], left_out: set[str]) -> bool:
    """Tell if settings are the same but for facts of some names, at any depth."""

    def rest(facts: Any) -> Any:
        if isinstance(facts, list):
            return [rest(each) for each in facts]
        if isinstance(facts, Mapping):
            return {name: rest(fact) for name, fact in facts.items() if name not in left_out}
        return facts

    return bool(rest(recorded) == rest(settings))
