"""Which package, software and machine figures are of."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from typing import Any

from segmaformer.runtime.package import MANIFEST_FILE, Package
from segmaformer.runtime.run_record import sha256_of


def provenance(package: Package) -> dict[str, Any]:
    """For a JSON document: package, time, versions and machine."""
    return {
        "package": package.manifest.name,
        "manifest_sha256": sha256_of(package.path / MANIFEST_FILE),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": {
            name: version(name) for name in ("segmaformer", "onnxruntime", "numpy", "scipy")
        },
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
