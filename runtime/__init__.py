"""Segmentation of scans with a package, without PyTorch.

Modules that take long to load are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmaformer.runtime.checks.scan import check_scan
    from segmaformer.runtime.ensemble import Ensemble
    from segmaformer.runtime.package.reader import Package
    from segmaformer.runtime.package.signatures import Trust
    from segmaformer.runtime.predictor import Predictor
    from segmaformer.runtime.results.report import write_report
    from segmaformer.runtime.results.segmentation import Segmentation
    from segmaformer.runtime.scans.volume import Volume

__all__ = [
    "Ensemble",
    "Package",
    "Predictor",
    "Segmentation",
    "Trust",
    "Volume",
    "check_scan",
    "write_report",
]

_PLACES = {
    "Ensemble": "ensemble",
    "Package": "package.reader",
    "Predictor": "predictor",
    "Segmentation": "results.segmentation",
    "Trust": "package.signatures",
    "Volume": "scans.volume",
    "check_scan": "checks.scan",
    "write_report": "results.report",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
