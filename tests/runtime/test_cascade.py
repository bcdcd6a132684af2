"""Cascades of two small networks, whose packages need no PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.packages.samples import copy_package, edit_manifest, flip_byte, head_like
from support.packages.small_packages import write_cascade_package

from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.errors import BudgetError, PackageError
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.pipeline.preprocessing import (
    network_grid,
    restore_map,
    with_masks,
)

ONE_THREAD = BackendOptions(threads=1)
PREVIOUS = Path("previous_stage")


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cascade_package(tmp_path_factory.mktemp("cascade") / "cascade.sgmf")


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(head_like((24, 20, 16))[None], np.eye(4))


def predictor(package: Path, **options: int) -> Predictor:
    return Predictor(Package.open(package), "onnxruntime", options=ONE_THREAD, **options)


def test_the_second_network_sees_the_labels_of_the_first(cascade: Path, volume: Volume) -> None:
    """One tile covers the scan, so the whole can be computed by hand."""
    whole = predictor(cascade)
    manifest = whole.package.manifest
    labels = predictor(cascade / PREVIOUS).predict(volume).labels
    assert set(np.unique(labels)) == {0, 1, 2}
    assert manifest.previous_stage is not None
    spec = manifest.preprocessing
    grid = network_grid(volume, spec, whole=False)
    prepared = with_masks(volume, spec, grid, labels, manifest.previous_stage)
    assert prepared.image[1:].any()
    padded = np.zeros((1, *manifest.input_shape), np.float32)
    place = [
        slice((tile - extent) // 2, (tile - extent) // 2 + extent)
        for tile, extent in zip(manifest.tiling.tile, prepared.image.shape[1:], strict=True)
    ]
    padded[(0, slice(None), *place)] = prepared.image
    logits = whole.network.session.run(padded)[0][(slice(None), *place)]
    expected = restore_map(logits_to_labels(logits, manifest.output), prepared)
    np.testing.assert_array_equal(whole.predict(volume).labels, expected)


def test_one_network_at_a_time_gives_the_same(cascade: Path, volume: Volume) -> None:
    always, in_turn = predictor(cascade), predictor(cascade, memory_budget_mib=64)
    first = in_turn._first
    assert first is not None
    for _ in range(2):
        found = in_turn.predict(volume)
        np.testing.assert_array_equal(found.labels, always.predict(volume).labels)
        assert not in_turn.network.is_open
        assert not first.network.is_open
    assert [*found.seconds][2:] == ["previous stage", "masks", "network and labels"]


def test_probabilities_go_with_the_labels(cascade: Path, volume: Volume) -> None:
    whole = predictor(cascade)
    prepared = whole.prepare(volume)
    maps = [*whole.probabilities(prepared, ["organ 0", "organ 1", "organ 2"])]
    np.testing.assert_array_equal(np.argmax(maps, axis=0), whole.segment(prepared).labels)


def test_the_budget_holds_both_stages(cascade: Path) -> None:
    scan = Volume(head_like((120, 100, 80))[None], np.eye(4))
    with pytest.raises(BudgetError) as refused:
        predictor(cascade, memory_budget_mib=10).predict(scan)
    enough = -(-refused.value.least_bytes // 2**20)
    found = predictor(cascade, memory_budget_mib=enough).predict(scan)
    np.testing.assert_array_equal(found.labels, predictor(cascade).predict(scan).labels)


def test_both_networks_are_named_where_they_differ(cascade: Path) -> None:
    whole = predictor(cascade)
    assert whole._first is not None
    assert whole.backend == whole._first.backend
    whole._first.network.description = "TensorRT, fp16"
    assert whole.backend.startswith("TensorRT, fp16, then ONNX Runtime")


@pytest.mark.parametrize(
    ("place", "old", "new", "complaint"),
    [
        (".", '"labels": [\n      1,\n      2\n    ]', '"labels": []', "expected different ones"),
        (
            ".",
            '"resampling": {\n      "order": 1',
            '"resampling": {\n      "order": 2',
            "no order 0",
        ),
        (".", '"previous_stage/manifest.json"', '"previous_stage/other.json"', "does not list"),
        (PREVIOUS, "organ 2", "organ 3", "SHA-256"),
    ],
)
def test_manifests_that_are_no_cascade(
    cascade: Path, tmp_path: Path, place: str | Path, old: str, new: str, complaint: str
) -> None:
    package = copy_package(cascade, tmp_path)
    edit_manifest(package / place, old, new)
    with pytest.raises(PackageError, match=complaint):
        Package.open(package)


def test_the_first_network_is_part_of_the_package(cascade: Path, tmp_path: Path) -> None:
    package = copy_package(cascade, tmp_path)
    flip_byte(package / PREVIOUS / "fp32.onnx", 100)
    with pytest.raises(PackageError, match=r"previous_stage/fp32\.onnx .*SHA-256"):
        Package.open(package)
