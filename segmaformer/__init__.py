"""From a Mamba segmentation checkpoint to a verified package."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("segmaformer")
