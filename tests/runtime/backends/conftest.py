"""Fixtures: a package that needs no device, and a tile for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmaformer.runtime.package.reader import Package


@pytest.fixture(scope="module")
def package(tiny_package_path: Path) -> Package:
    return Package.open(tiny_package_path)


@pytest.fixture(scope="module")
def tile(package: Package) -> np.ndarray:
    shape = (1, 1, *package.manifest.tiling.tile)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
