from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.packages.samples import sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.parity import stored_reference as module
from segmaformer.runtime.parity.stored_reference import (
    REFERENCE_FILE,
    grid_step,
    pack_reference,
    reference_tile,
    stored_reference,
)
from segmaformer.runtime.parity.tile_parity import TileParity
from segmaformer.runtime.spec import Tiling

TILE = (40, 16, 20)
MANIFEST = sample_manifest(tiling=Tiling(TILE))


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, *TILE)).astype(np.float32)


def _tile() -> np.ndarray:
    return reference_tile(MANIFEST)


def _package(folder: Path, content: bytes | None) -> Package:
    files = {"fp32.onnx": b"network"}
    if content is not None:
        files[REFERENCE_FILE] = content
    return Package(folder, write_files(folder, MANIFEST, files))


def test_the_reference_comes_back_with_its_tile(tmp_path: Path, logits: np.ndarray) -> None:
    content = pack_reference(_tile(), logits, MANIFEST)
    assert content == pack_reference(_tile(), logits, MANIFEST)
    reference = stored_reference(_package(tmp_path, content))
    assert reference is not None
    np.testing.assert_array_equal(reference.tile, _tile())
    np.testing.assert_array_equal(reference.labels, logits.argmax(0))
    assert grid_step(TILE) == (3, 1, 2)
    np.testing.assert_array_equal(reference.logits, logits[:, ::3, :, ::2])


def test_a_change_at_one_voxel_is_seen(tmp_path: Path, logits: np.ndarray) -> None:
    reference = stored_reference(_package(tmp_path, pack_reference(_tile(), logits, MANIFEST)))
    assert reference is not None
    altered = logits.copy()
    altered[1, 6, 5, 8] += 9
    parity = TileParity(MANIFEST.output)
    reference.compare(altered, parity)
    assert parity.worst == (0, 1, 6, 5, 8)
    assert parity.largest_error == pytest.approx(9)
    assert parity.shortcomings(exact=True)
    beside_the_grid = logits.copy()
    beside_the_grid[:, 1, 5, 8] = (-9, 9) if logits[:, 1, 5, 8].argmax() == 0 else (9, -9)
    parity = TileParity(MANIFEST.output)
    reference.compare(beside_the_grid, parity)
    assert parity.largest_error == 0
    assert parity.agreement == 1 - 1 / np.prod(TILE)


def test_a_package_may_lack_it(tmp_path: Path) -> None:
    assert stored_reference(_package(tmp_path, None)) is None


def test_another_phantom_is_told(
    tmp_path: Path, logits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _package(tmp_path, pack_reference(_tile(), logits, MANIFEST))
    monkeypatch.setattr(module, "reference_tile", lambda *_: _tile() + np.float32(0.1))
    with pytest.raises(PackageError, match="other phantoms"):
        stored_reference(package)


def test_what_does_not_fit_is_refused(tmp_path: Path, logits: np.ndarray) -> None:
    with pytest.raises(PackageError, match="cannot be read"):
        stored_reference(_package(tmp_path, b"no archive"))
    wide = dataclasses.replace(MANIFEST, tiling=Tiling((42, 16, 20)))
    tile = reference_tile(wide)
    content = pack_reference(tile, np.zeros((2, 42, 16, 20), np.float32), wide)
    with pytest.raises(PackageError, match="expected"):
        stored_reference(_package(tmp_path, content))
