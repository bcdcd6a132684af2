from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from support.graphs.graphs import model_of, run

from segmaformer.export.rewrites import rewrite_for_cpu
from segmaformer.export.token_ops import inline_token_functions

RANDOM = np.random.default_rng(0)
C = 6
EXTENTS = (2, 3, 4)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def resize(source: str, result: str, **attributes: Any) -> NodeProto:
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", **attributes}
    return helper.make_node("Resize", [source, "", "scales"], [result], result, **attributes)


SCALES = {"scales": np.array([1, 1, 2, 3, 1], np.float32)}
LARGE = (4, 9, 4)


NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


@pytest.mark.parametrize(
    ("attributes", "native"),
    [
        ({}, 1),
        (NEAREST, 1),
        ({"mode": "nearest"}, 0),
        (NEAREST | {"nearest_mode": "ceil"}, 0),
        ({"coordinate_transformation_mode": "align_corners"}, 0),
        ({"antialias": 1}, 0),
    ],
)
def test_upsampling_is_native(attributes: dict[str, Any], native: int) -> None:
    model = model_of(
        [resize("x", "y", **attributes)], SCALES, x=["batch", C, *EXTENTS], y=["batch", C, *LARGE]
    )
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["upsampling"] == native
    assert rewritten.graph.output[0].name == "y"
    x = weight(2, C, *EXTENTS)
    expected = run(model, {"x": x})
    for each in (rewritten, inline_token_functions(rewritten)):
        np.testing.assert_allclose(run(each, {"x": x}), expected, atol=1e-6)


def test_fractions_and_shrinking_are_left_alone() -> None:
    for scale, extent in ((1.5, 3), (0.5, 1)):
        scales = {"scales": np.array([1, 1, 1, 1, scale], np.float32)}
        model = model_of(
            [resize("x", "y")], scales, x=["batch", C, 2, 3, 2], y=["batch", C, 2, 3, extent]
        )
        assert rewrite_for_cpu(model)[1]["upsampling"] == 0
