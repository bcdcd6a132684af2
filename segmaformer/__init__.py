"""From a Mamba segmentation checkpoint to a verified package."""

from __future__ import annotations

import os
from importlib.metadata import version

# ONNX Runtime's official builds send usage data and keep an identifier of the machine from 1.29 on,
# unless this is set when they are first loaded. A choice that was made already stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = version("segmaformer")
