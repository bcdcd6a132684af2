from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.samples import PARITY, sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.manifest import EARLIER_BOUND, Manifest, Variant
from segmaformer.runtime.parity.tile_parity import (
    ROUNDING_BOUND,
    TileParity,
    bound_elsewhere,
    export_bound,
)
from segmaformer.runtime.spec import Label, Output, Region

OUTPUT = Output((Label(0, "background"), Label(1, "a"), Label(2, "b")))


def random_logits(seed: int, shape: tuple[int, ...] = (3, 10, 10, 10)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def compared(*pairs: tuple[np.ndarray, np.ndarray], output: Output = OUTPUT) -> TileParity:
    parity = TileParity(output)
    for logits, reference in pairs:
        parity.add(logits, reference)
    return parity


def test_equal_logits_fall_short_of_nothing() -> None:
    logits = random_logits(0)
    parity = compared((logits, logits.copy()))
    assert parity.shortcomings(exact=True) == []
    assert parity.shortcomings(exact=False) == []
    assert parity.record() == {
        "reference": "PyTorch float32",
        "tiles": 1,
        "largest_error": 0.0,
        "relative_error": 0.0,
        "label_agreement": 1.0,
        "dice": {"0": 1.0, "1": 1.0, "2": 1.0},
    }


def test_the_largest_error_is_found_with_its_place() -> None:
    first, second = random_logits(1), random_logits(2)
    altered = second.copy()
    altered[2, 3, 4, 5] += 0.5
    altered[0, 0, 0, 0] -= 0.25
    parity = compared((first + np.float32(1e-7), first), (altered, second))
    assert parity.worst == (1, 2, 3, 4, 5)
    assert parity.largest_error == pytest.approx(0.5, rel=1e-6)
    span = max(first.max(), second.max()) - min(first.min(), second.min())
    assert parity.relative_error == pytest.approx(0.5 / span, rel=1e-6)
    assert parity.tile_errors == pytest.approx([1e-7, 0.5], rel=1)
    (complaint,) = parity.shortcomings(exact=True)
    assert "is at tile 1, channel 2, voxel (3, 4, 5)" in complaint
    assert "0.5" in complaint


@pytest.mark.parametrize(("factor", "good"), [(0.9, True), (1.1, False)])
def test_the_bound_is_a_part_of_the_range(factor: float, good: bool) -> None:
    reference = np.zeros((3, 2, 2, 2), np.float32)
    reference[0] = 8
    logits = reference.copy()
    logits[1, 0, 0, 0] = 8 * ROUNDING_BOUND * factor
    assert (compared((logits, reference)).shortcomings(exact=True) == []) is good


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("exact", [True, False])
def test_what_is_no_number_falls_short(value: float, exact: bool) -> None:
    reference = random_logits(3)
    logits = reference.copy()
    logits[1] = value
    parity = compared((logits, reference))
    assert parity.relative_error == np.inf
    assert parity.shortcomings(exact=exact)
    assert compared((reference, logits)).shortcomings(exact=True)


def test_constant_references_have_no_range() -> None:
    zeros = np.zeros((3, 2, 2, 2), np.float32)
    assert compared((zeros, zeros)).relative_error == 0
    assert compared((zeros + np.float32(1e-9), zeros)).shortcomings(exact=True)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels == value for value in range(3)]).astype(np.float32)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3))
@settings(max_examples=25)
def test_agreement_and_dice_are_those_of_all_tiles_together(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    tiles = [(random.integers(0, 3, (4, 5, 6)), random.integers(0, 2, (4, 5, 6)))
             for _ in range(count)]  # fmt: skip
    parity = compared(*((one_hot(found), one_hot(expected)) for found, expected in tiles))
    found, expected = (np.stack(side) for side in zip(*tiles, strict=True))
    assert parity.agreement == pytest.approx((found == expected).mean())
    assert list(parity.dice) == sorted(set(np.unique(found)) | set(np.unique(expected)))
    for value, dice in parity.dice.items():
        both = np.count_nonzero((found == value) & (expected == value))
        total = np.count_nonzero(found == value) + np.count_nonzero(expected == value)
        assert dice == pytest.approx(2 * both / total)


def labels_with(wrong: int, small: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a map of 100^3 with `small` voxels of label 2, and one lacking `wrong` of label 1."""
    expected = np.zeros((100, 100, 100), int)
    expected[:50] = 1
    expected.flat[-small:] = 2
    found = expected.copy()
    found.flat[:wrong] = 0
    return found, expected


@pytest.mark.parametrize(
    ("wrong", "good"), [(0, True), (900, True), (1100, False), (500_000, False)]
)
def test_labels_may_differ_in_one_voxel_of_a_thousand(wrong: int, good: bool) -> None:
    found, expected = labels_with(wrong, 10)
    complaints = compared((one_hot(found), one_hot(expected))).shortcomings(exact=False)
    assert (complaints == []) is good
    if not good:
        assert "of labels are equal (at least 99.9%)" in complaints[0]
        assert "tile 0, channel" in complaints[-1]


def test_a_small_label_counts_as_much_as_a_large_one() -> None:
    found, expected = labels_with(0, 10)
    found.flat[-1] = 0
    complaints = compared((one_hot(found), one_hot(expected))).shortcomings(exact=False)
    assert complaints[0] == "Dice of label 2 is 0.94737 (at least 0.999)"
    assert all("of labels are equal" not in complaint for complaint in complaints)


def test_a_label_that_only_the_variant_has_falls_short() -> None:
    found, expected = labels_with(0, 10)
    expected[expected == 2] = 0
    complaints = compared((one_hot(found), one_hot(expected))).shortcomings(exact=False)
    assert complaints[0].startswith("Dice of label 2 is 0.00000")


def test_regions_are_compared_as_they_are_painted() -> None:
    output = Output(
        (Label(0, "background"), Label(4, "rest"), Label(7, "core")),
        (Region("whole", (1, 2), 4), Region("core", (2,), 7)),
    )
    reference = np.ones((2, 2, 2, 2), np.float32)
    logits = reference.copy()
    logits[1, 0] = -1
    parity = compared((logits, reference), output=output)
    assert parity.dice == {4: 0.0, 7: pytest.approx(2 / 3)}


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="logits have shape"):
        compared((random_logits(0, (1, 2, 2, 2)), random_logits(0, (3, 2, 2, 2))))


def test_the_record_is_json_and_counts_tiles() -> None:
    pairs = [(random_logits(seed), random_logits(seed)) for seed in range(3)]
    record = json.loads(json.dumps(compared(*pairs).record()))
    assert record["tiles"] == 3
    assert all(a <= b for a, b in pairwise(map(int, record["dice"])))


@pytest.mark.parametrize(
    ("noise", "bound"), [(None, 2e-5), (0.0, 2e-5), (9e-6, 2e-5), (1.5e-5, 3e-5), (1e-3, 2e-3)]
)
def test_a_network_may_be_as_noisy_as_pytorch_is(noise: float | None, bound: float) -> None:
    assert export_bound(noise) == pytest.approx(bound)
    parity = TileParity(OUTPUT, bound=bound, noise=noise)
    reference = random_logits(0)
    reference.flat[:2] = (-4, 4)
    for factor, good in ((0.9, True), (1.1, False)):
        logits = reference.copy()
        logits[1, 3, 0, 0] += 8 * bound * factor
        parity.add(logits, reference)
        assert (parity.shortcomings(exact=True) == []) is good
    assert parity.record(exact=True)["bound"] == bound
    assert parity.record(exact=True)["noise"] == noise
    assert "bound" not in parity.record()


def manifest_with(**figures: Any) -> Manifest:
    return sample_manifest(variants={"fp32": Variant("fp32.onnx", {}, {**PARITY, **figures})})


def test_packages_without_a_bound_keep_the_one_that_decided() -> None:
    earlier = {key: value for key, value in PARITY.items() if key not in ("bound", "noise")}
    manifest = sample_manifest(variants={"fp32": Variant("fp32.onnx", {}, earlier)})
    assert bound_elsewhere(manifest) == EARLIER_BOUND == 1e-4


@pytest.mark.parametrize(
    ("figures", "bound"),
    [
        ({}, 2e-5 + 1.5e-7),
        ({"relative_error": 0}, 2e-5),
        ({"bound": 6e-5, "noise": 3e-5, "relative_error": 2e-5}, 9e-5),
        ({"bound": 6e-5, "noise": 3e-5, "relative_error": 5e-5}, 11e-5),
    ],
)
def test_elsewhere_the_reference_may_be_off_as_well(figures: Any, bound: float) -> None:
    assert bound_elsewhere(manifest_with(**figures)) == pytest.approx(bound)


@pytest.mark.parametrize(
    "figures",
    [
        {"bound": None},
        {"bound": "1"},
        {"bound": -1.0},
        {"bound": True},
        {"bound": 2e-5, "relative_error": [1]},
        {"bound": 2e-5, "noise": {}},
    ],
)
def test_figures_that_are_no_numbers_are_refused(figures: Any) -> None:
    with pytest.raises(PackageError, match=r"parity\.\w+ is .*; expected a number"):
        bound_elsewhere(manifest_with(**figures))
