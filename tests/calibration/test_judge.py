from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs.small_onnx import TILE, run, small_network, some_tiles

onnx = pytest.importorskip("onnx")

from segmaformer.calibration.judge import Judge, Judgement
from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.tile_set import TileSet
from segmaformer.runtime.spec import Label, Output

OUTPUT = Output((Label(0, "background"), Label(1, "one"), Label(2, "two")))
TILES = some_tiles(5)


def judge(truth: np.ndarray | None = None) -> Judge:
    return Judge(TileSet(TILES, (), truth), small_network(), OUTPUT, threads=1)


def shifted(by: float) -> Any:
    """Return the network with a larger logit of label 1."""
    model = small_network()
    (bias,) = [each for each in model.graph.initializer if each.name == "b_last"]
    values = onnx.numpy_helper.to_array(bias) + np.array([0, by, 0], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, "b_last"))
    return model


def labels_of(model: Any) -> np.ndarray:
    found: np.ndarray = run(model, TILES)[0].argmax(axis=1).astype(np.int32)
    return found


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_the_network_itself_passes_any_gate() -> None:
    found = judge()(small_network())
    assert found.lowest_dice == found.parity.agreement == 1
    assert found.parity.tiles == 5
    assert found.shortfalls(Gate(1.0, 0.0)) == []
    assert found.record() == {}


def test_labels_are_compared_with_fp32() -> None:
    expected, changed = labels_of(small_network()), labels_of(shifted(0.3))
    found = judge()(shifted(0.3))
    for label in range(3):
        assert found.parity.dice[label] == pytest.approx(dice(expected == label, changed == label))
    (complaint, *_) = found.shortfalls(Gate(0.999))
    assert "Dice is 0." in complaint
    assert "expected at least 0.999" in complaint


def test_label_maps_are_judged_by_where_they_are_given() -> None:
    expected, changed = labels_of(small_network()), labels_of(shifted(0.3))
    truth = expected.copy()
    truth[0] = -1
    found = judge(truth)(shifted(0.3))
    assert found.truth_dice.keys() == {1, 2}
    for label, (before, after) in found.truth_dice.items():
        assert before == 1
        assert after == pytest.approx(dice(truth[1:] == label, changed[1:] == label))
    assert any("label maps falls from 1.0000" in each for each in found.shortfalls(Gate(0, 0.005)))
    assert found.shortfalls(Gate(0, 1)) == []
    assert found.record()["dice_with_label_maps"].keys() == {"1", "2"}


def test_more_of_the_truth_is_no_shortfall() -> None:
    truth = labels_of(shifted(0.3))
    found = judge(truth)(shifted(0.3))
    assert all(after == 1 > before for before, after in found.truth_dice.values())
    assert found.shortfalls(Gate(0, 0)) == []


@pytest.mark.parametrize(("most", "tiles"), [(2, 2), (5, 5), (9, 5), (None, 5)])
def test_some_tiles_are_enough_for_a_ranking(most: int | None, tiles: int) -> None:
    found: Judgement = judge()(small_network(), most_tiles=most)
    assert found.parity.tiles == tiles
    assert found.parity.voxels == tiles * np.prod(TILE)
