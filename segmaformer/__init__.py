"""Export of Mamba segmentation networks to verified packages that run anywhere."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

# From 1.29 on, ONNX Runtime's official builds send usage data and keep an identifier of the
# machine, unless this is set when they are first loaded. A value set by the user stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    _distribution = distribution("segmaformer")
except PackageNotFoundError:
    raise ImportError(
        "segmaformer is not installed: run pip install -c constraints.txt '.[all]' in the clone"
    ) from None
__version__ = _distribution.version

# In the clone's root this folder hides the installed package, which alone is whole.
if find_spec(f"{__name__}.runtime") is None:
    __path__ = [str(_distribution.locate_file("segmaformer"))]
