from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.packages.samples import head_like, sample_manifest

from segmaformer.runtime import Volume
from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.pipeline.prediction import Prediction
from segmaformer.runtime.pipeline.preprocessing import network_grid, preprocess
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.spec import Label, Output, Resampling

PLENTY = 1 << 40
VOLUME = Volume(head_like((40, 30, 50))[None] + np.float32(1), np.eye(4))


def ignore(done: int, count: int) -> None:
    pass


def threshold(tiles: np.ndarray) -> np.ndarray:
    return np.concatenate([-tiles, tiles, 3 * tiles - 2], axis=1)


@pytest.fixture(scope="module")
def plenty() -> Prediction:
    labels = tuple(Label(value, str(value)) for value in range(3))
    manifest = sample_manifest(output=Output(labels))
    return Prediction(
        preprocess(VOLUME, manifest.preprocessing),
        manifest,
        TileNetwork(threshold),
        budget_bytes=PLENTY,
        scan_bytes=VOLUME.voxels.nbytes,
        threads=1,
    )


def with_splines(prediction: Prediction) -> Prediction:
    """Write the same on another grid, with logits resampled by a cubic spline."""
    cubic = replace(
        prediction.manifest.preprocessing,
        logits_resampling=Resampling(order=3),
        spacing=(0.8, 0.9, 1.1),
    )
    manifest = replace(prediction.manifest, preprocessing=cubic)
    return replace(prediction, prepared=preprocess(VOLUME, cubic), manifest=manifest)


def least_bytes(prediction: Prediction) -> int:
    with pytest.raises(BudgetError) as refusal:
        replace(prediction, budget_bytes=0).check_budget()
    return refusal.value.least_bytes


@pytest.mark.parametrize("splines", [False, True])
def test_the_least_budget_is_the_whole_and_suffices(plenty: Prediction, splines: bool) -> None:
    prediction = with_splines(plenty) if splines else plenty
    least = least_bytes(prediction)
    assert least > VOLUME.voxels.nbytes + prediction.prepared.image.nbytes
    enough = replace(prediction, budget_bytes=least)
    np.testing.assert_array_equal(enough.labels(ignore), prediction.labels(ignore))
    with pytest.raises(BudgetError) as refusal:
        replace(prediction, budget_bytes=least - 1).labels(ignore)
    assert refusal.value.least_bytes == least


def test_what_a_scan_needs_is_known_from_its_grid(plenty: Prediction) -> None:
    grid = network_grid(VOLUME, plenty.manifest.preprocessing, whole=True)
    assert grid.image.base is not None
    assert grid.image.strides == (0, 0, 0, 0)
    assert least_bytes(replace(plenty, prepared=grid)) == least_bytes(plenty)


@pytest.mark.parametrize("splines", [False, True])
def test_probabilities_come_one_by_one_in_the_order_asked_for(
    plenty: Prediction, splines: bool
) -> None:
    prediction = with_splines(plenty) if splines else plenty
    maps = np.stack(list(prediction.probabilities([2, 0, 1], ignore)))
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)
    if not splines:
        np.testing.assert_array_equal(maps[[1, 2, 0]].argmax(0), prediction.labels(ignore))


def test_as_many_maps_come_from_one_pass_as_the_budget_holds(plenty: Prediction) -> None:
    runs = itertools.count()

    def run(tiles: np.ndarray) -> np.ndarray:
        next(runs)
        return threshold(tiles)

    counted = replace(plenty, network=TileNetwork(run))
    seen: list[tuple[int, int]] = []
    expected = list(counted.probabilities([0, 1, 2], lambda *step: seen.append(step)))
    once = next(runs)
    assert seen == [(done, once) for done in range(once + 1)]
    with pytest.raises(BudgetError) as refusal:
        replace(counted, budget_bytes=0)._stream(1)
    little = replace(counted, budget_bytes=refusal.value.least_bytes)
    seen.clear()
    for found, wanted in zip(
        little.probabilities([0, 1, 2], lambda *step: seen.append(step)), expected, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    count = next(runs) - once - 1
    assert count > 2 * once
    assert sorted(set(seen)) == [(done, count) for done in range(count + 1)]
