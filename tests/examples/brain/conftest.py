"""The example's modules, importable as its scripts import each other, and a small made-up head."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
EXAMPLE = Path(__file__).resolve().parents[3] / "examples/brain"


@pytest.fixture(scope="package", autouse=True)
def example() -> Iterator[Path]:
    """Let `import synthesis` find the example, and forget its modules afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLE))
    yield EXAMPLE
    sys.path.remove(str(EXAMPLE))
    for name in set(sys.modules) - before:
        if (EXAMPLE / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="package")
def head() -> Any:
    """Make a head of shells: air, skin, fluid, cortex, white matter, thalamus."""
    from classes import STRUCTURES
    from label_maps import label_map

    names = [structure.name for structure in STRUCTURES]
    places = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in (72, 80, 64)), indexing="ij")
    radius = torch.stack(places).square().sum(0).sqrt()
    structures = torch.zeros(radius.shape, dtype=torch.uint8)
    for name, below in (
        ("outside the brain, 507", 30),
        ("cerebrospinal fluid", 26),
        ("cerebral cortex", 24),
        ("cerebral white matter", 18),
        ("thalamus", 9),
    ):
        structures[radius < below] = names.index(name)
    return label_map("made-up", structures)
