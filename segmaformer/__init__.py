"""Export of Mamba segmentation networks to verified packages that run anywhere."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

# From 1.29 on, ONNX Runtime's official builds send usage data and keep an identifier of the
# machine, unless this is set when they are first loaded. A value set by the user stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__: str


def __getattr__(name: str) -> Any:
    """Read the version when it is asked for: the reader of metadata takes long to load."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("segmaformer")


def _installed_folder() -> str:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return str(distribution("segmaformer").locate_file("segmaformer"))
    except PackageNotFoundError:
        raise ImportError(
            "segmaformer is not installed: run pip install -c constraints.txt '.[all]' in the clone"
        ) from None


# In the clone's root this folder hides the installed package, which alone is whole.
if find_spec(f"{__name__}.runtime") is None:
    __path__ = [_installed_folder()]
