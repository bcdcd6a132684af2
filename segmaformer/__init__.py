"""Export of Mamba segmentation networks to verified packages that run anywhere."""

from __future__ import annotations

import os
from importlib.metadata import version

# From 1.29 on, ONNX Runtime's official builds send usage data and keep an identifier of the
# machine, unless this is set when they are first loaded. A value set by the user stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = version("segmaformer")
