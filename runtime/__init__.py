"""From a package and a scan to a segmentation, without PyTorch.

What takes long to load is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmaformer.runtime.package.reader import Package
    from segmaformer.runtime.predictor import Predictor
    from segmaformer.runtime.results.segmentation import Segmentation
    from segmaformer.runtime.scans.volume import Volume

__all__ = ["Package", "Predictor", "Segmentation", "Volume"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{name.lower()}"), name)
