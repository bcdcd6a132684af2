"""Provenance of reported figures: package, software and machine."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from typing import Any

from segmaformer.runtime.package.reader import Package


def provenance(package: Package) -> dict[str, Any]:
    """Describe package, time, versions and machine for a JSON document."""
    return {
        "package": package.manifest.name,
        "manifest_sha256": package.manifest_sha256,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": {name: version(name) for name in ("segmaformer", "onnxruntime", "numpy")},
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
