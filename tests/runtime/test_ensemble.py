"""Ensembles of small packages, against the mean of their own probability maps."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packages.samples import head_like
from support.packages.small_packages import (
    convolutions,
    write_cascade_package,
    write_package,
    write_region_package,
)

from segmaformer.runtime import Package, Predictor, Volume
from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.ensemble import Ensemble
from segmaformer.runtime.errors import BudgetError, CancelledError, InputError
from segmaformer.runtime.package.reader import read_manifest
from segmaformer.runtime.pipeline.postprocessing import postprocess
from segmaformer.runtime.spec import KeepLargest

ONE_THREAD = BackendOptions(threads=1)
ORGANS = ["organ 0", "organ 1", "organ 2"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Package]:
    """Make a cascade and a package of another grid and order of axes, with the same labels."""
    folder = tmp_path_factory.mktemp("ensemble")
    cascade = write_cascade_package(folder / "cascade")
    manifest = read_manifest(cascade)
    spec = dataclasses.replace(
        manifest.preprocessing, transpose_forward=(2, 0, 1), spacing=(1.3, 0.8, 1.1)
    )
    other = write_package(folder / "other", spec, manifest.output, convolutions(1, 3, width=9))
    return [Package.open(cascade), Package.open(other)]


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(head_like((34, 30, 26))[None], np.diag([1.1, 0.9, 1.0, 1]))


def ensemble(packages: list[Package], budget: int | None = None) -> Ensemble:
    return Ensemble(packages, "onnxruntime", memory_budget_mib=budget, options=ONE_THREAD)


def with_steps(packages: list[Package], steps: tuple[KeepLargest, ...]) -> list[Package]:
    return [
        dataclasses.replace(each, manifest=dataclasses.replace(each.manifest, postprocessing=steps))
        for each in packages
    ]


def mean_of_members(packages: list[Package], volume: Volume, labels: list[str]) -> np.ndarray:
    sums = []
    for package in packages:
        member = Predictor(package, "onnxruntime", options=ONE_THREAD)
        sums.append(np.stack([*member.probabilities(member.prepare(volume), labels)]))
    mean: np.ndarray = (sums[0] + sums[1]) / np.float32(2)
    return mean


def test_the_mean_decides(packages: list[Package], volume: Volume) -> None:
    both = ensemble(packages)
    prepared = both.prepare(volume)
    expected = mean_of_members(packages, volume, ORGANS)
    found = both.segment(prepared)
    np.testing.assert_array_equal(found.labels, expected.argmax(0))
    np.testing.assert_array_equal(np.stack([*both.probabilities(prepared, ORGANS)]), expected)
    for package in packages:
        own = Predictor(package, "onnxruntime", options=ONE_THREAD).predict(volume).labels
        assert (own != found.labels).any()


def test_postprocessing_must_be_the_same(packages: list[Package], volume: Volume) -> None:
    steps = (KeepLargest((1, 2)), KeepLargest((1,)))
    listed = with_steps(packages, steps)
    plain = ensemble(packages)
    expected = plain.segment(plain.prepare(volume)).labels
    postprocess(expected, steps)
    both = ensemble(listed)
    found = both.segment(both.prepare(volume))
    np.testing.assert_array_equal(found.labels, expected)
    assert found.postprocessing == steps
    with pytest.raises(InputError, match="list different postprocessing"):
        ensemble([packages[0], listed[1]])


def test_cancelling_ends_postprocessing(
    packages: list[Package], volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, cancel = ensemble(with_steps(packages, (KeepLargest((1,)),))), threading.Event()
    labels = both._labels

    def cancelled_afterwards(*arguments: Any) -> np.ndarray:
        found = labels(*arguments)
        cancel.set()
        return found

    monkeypatch.setattr(both, "_labels", cancelled_afterwards)
    with pytest.raises(CancelledError):
        both.segment(both.prepare(volume), cancel=cancel)


def test_regions_are_painted_where_the_mean_is_above_one_half(tmp_path: Path) -> None:
    first = Package.open(write_region_package(tmp_path / "first"))
    write_package(
        tmp_path / "second", first.manifest.preprocessing, first.manifest.output,
        convolutions(2, 3, width=7),
    )  # fmt: skip
    packages = [first, Package.open(tmp_path / "second")]
    scan = Volume(np.stack([head_like((30, 28, 24), seed) for seed in (0, 1)]), np.eye(4))
    both = ensemble(packages)
    mean = mean_of_members(packages, scan, ["whole", "core", "rim"])
    expected = np.zeros(scan.shape, np.uint16)
    for values, region in zip(mean, first.manifest.output.regions, strict=True):
        expected[values > 0.5] = region.value
    found = both.segment(both.prepare(scan)).labels
    assert found.any()
    np.testing.assert_array_equal(found, expected)


def test_labels_are_the_same_for_every_budget(packages: list[Package]) -> None:
    scan = Volume(head_like((90, 80, 70))[None], np.eye(4))
    always = ensemble(packages)
    prepared = always.prepare(scan)
    assert always._stored(prepared, None, None) is not None
    expected = always.segment(prepared).labels
    np.testing.assert_array_equal(always._labels_in_turn(prepared, None, None), expected)
    held_bytes = 4 * scan.voxels[0].size + prepared.scan.image.nbytes
    small = ensemble(packages, 16)
    with pytest.raises(BudgetError) as refused:
        small._together(scan, 3, held_bytes)
    least = -(-refused.value.least_bytes // 2**20)
    in_turn = ensemble(packages, least)
    assert in_turn._together(scan, 3, held_bytes) == 1
    assert in_turn._stored(prepared, None, None) is None
    np.testing.assert_array_equal(in_turn.segment(in_turn.prepare(scan)).labels, expected)
    assert not any(member.network.is_open for member in in_turn.members)


def test_all_members_are_named(packages: list[Package], volume: Volume) -> None:
    both = ensemble(packages)
    found = both.segment(both.prepare(volume))
    assert found.manifest.name == "sample + sample"
    assert found.package_sha256 not in {package.manifest_sha256 for package in packages}
    swapped = ensemble(packages[::-1])
    assert swapped.sha256 != both.sha256


@pytest.mark.parametrize(
    ("field", "name", "complaint"),
    [("preprocessing", "channels", "channels"), ("output", "labels", "labels")],
)
def test_packages_of_other_data_sets(
    packages: list[Package], field: str, name: str, complaint: str
) -> None:
    manifest = packages[1].manifest
    part = getattr(manifest, field)
    other = dataclasses.replace(part, **{name: getattr(part, name)[:0]})
    changed = dataclasses.replace(manifest, **{field: other})
    with pytest.raises(InputError, match=f"differ in {name}"):
        ensemble([packages[0], dataclasses.replace(packages[1], manifest=changed)])
