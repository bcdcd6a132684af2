"""The bundled model that tests take for its trained weights and its small tile."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

HIPPOCAMPUS = Path(str(files("segmaformer") / "reference_models/hippocampus/checkpoint_final.pth"))
