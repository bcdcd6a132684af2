"""Gather the installed package in one folder of links, from which mkdocstrings reads it.

An editable install leaves the parts of ``segmaformer`` in several folders, and only Python's
import knows where. mkdocstrings reads sources without importing them.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "build" / "package"
PARTS = ("segmaformer", "segmaformer.export", "segmaformer.calibration", "segmaformer.runtime")


def on_startup(**_: Any) -> None:
    """Fill build/package, which mkdocs.yml names to mkdocstrings."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    for part in PARTS:
        folder = PACKAGE.joinpath(*part.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        spec = find_spec(part)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{part} is not installed; run: pip install '.[docs,all]'")
        for source in Path(spec.origin).parent.iterdir():
            link = folder / source.name
            if not link.exists():
                link.symlink_to(source)
