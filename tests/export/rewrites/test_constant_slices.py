from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import apply_rewrites

RANDOM = np.random.default_rng(0)
BEYOND = np.iinfo(np.int64).max


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        (([2], [BEYOND], [0]), (4, 5)),
        (([0], [-2], [0]), (4, 5)),
        (([1, 0], [4, 3]), (3, 3)),
        (([0], [6], [0], [2]), (3, 5)),
        (([-3], [6], [-2], [1]), (3, 5)),
    ],
)
def test_a_slice_of_a_constant_is_cut(
    parameters: tuple[list[int], ...], shape: tuple[int, int]
) -> None:
    names = ["starts", "ends", "axes", "steps"][: len(parameters)]
    constants = {"W": RANDOM.standard_normal((6, 5), dtype=np.float32)}
    constants |= {name: np.array(v) for name, v in zip(names, parameters, strict=True)}
    nodes = [
        helper.make_node("Slice", ["W", *names], ["part"], "part"),
        helper.make_node("MatMul", ["part", "x"], ["y"], "y"),
    ]
    model = model_of(nodes, constants, x=[shape[1], 2], y=[shape[0], 2])
    rewritten, counts = apply_rewrites(model)
    assert counts["constant_slices"] == 1
    assert operators(rewritten) == ["MatMul"]
    x = RANDOM.standard_normal((shape[1], 2), dtype=np.float32)
    np.testing.assert_array_equal(run(rewritten, {"x": x}), run(model, {"x": x}))


def test_other_slices_stay() -> None:
    backwards = {"starts": np.array([4]), "ends": np.array([0]), "axes": np.array([0])}
    nodes = [
        helper.make_node("Slice", ["W", "starts", "ends", "axes", "steps"], ["part"], "part"),
        helper.make_node("Slice", ["x", "from", "to"], ["front"], "front"),
        helper.make_node("Add", ["part", "front"], ["y"], "y"),
    ]
    constants = {"W": np.arange(5, dtype=np.float32), "steps": np.array([-1]), **backwards}
    constants |= {"from": np.array([0]), "to": np.array([4])}
    model = model_of(nodes, constants, x=[5], y=[4])
    assert apply_rewrites(model)[1]["constant_slices"] == 0
