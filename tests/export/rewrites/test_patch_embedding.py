from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu

RANDOM = np.random.default_rng(0)
CIN, COUT = 2, 5
EXTENTS = (5, 6, 64)
RESULT = (3, 3, 32)
X = RANDOM.standard_normal((2, CIN, *EXTENTS), dtype=np.float32)
WEIGHTS = {
    "w": RANDOM.standard_normal((COUT, CIN, 3, 3, 3), dtype=np.float32),
    "b": RANDOM.standard_normal(COUT, dtype=np.float32),
}
TO_TOKENS = [0, 2, 3, 4, 1]


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], f"{output}_node", **attributes)


def conv(inputs: str = "x w b", **changes: Any) -> NodeProto:
    return node("Conv", inputs, "v", **{"strides": [2] * 3, "pads": [1] * 6, **changes})


def transposed(embedding: NodeProto, y: tuple[int, ...] = RESULT) -> Any:
    """Return tokens in the shape of the volume."""
    nodes = [embedding, node("Transpose", "v", "y", perm=TO_TOKENS)]
    return model_of(nodes, WEIGHTS, x=["batch", CIN, *EXTENTS], y=["batch", *y, COUT])


def flattened() -> Any:
    """Return tokens in a sequence."""
    nodes = [
        conv(),
        node("Reshape", "v flat", "sequence"),
        node("Transpose", "sequence", "tokens", perm=[0, 2, 1]),
        node("Relu", "tokens", "y"),
    ]
    constants = {**WEIGHTS, "flat": np.array([-1, COUT, 3 * 3 * 32])}
    return model_of(nodes, constants, x=["batch", CIN, *EXTENTS], y=["batch", 3 * 3 * 32, COUT])


def assert_same(rewritten: Any, model: Any) -> None:
    # Sums of 54 products of order one, in another order.
    np.testing.assert_allclose(run(rewritten, {"x": X}), run(model, {"x": X}), atol=2e-5)


@pytest.mark.parametrize(
    "embedding",
    [
        conv(),
        conv("x w"),
        conv(dilations=[1] * 3, group=1),
        conv(pads=[1, 2, 1, 1, 0, 1]),
    ],
    ids=["plain", "without bias", "defaults written out", "uneven pads"],
)
def test_a_volume_that_becomes_tokens(embedding: NodeProto) -> None:
    model = transposed(embedding)
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["patch_embedding"] == 1
    assert "Conv" not in operators(rewritten)
    assert_same(rewritten, model)


def test_no_transpose_is_left_before_readers_of_tokens() -> None:
    model = flattened()
    rewritten, _ = rewrite_for_cpu(model)
    assert operators(rewritten) == ["PatchEmbed", "Reshape", "Relu"]
    assert_same(rewritten, model)


def test_without_pads() -> None:
    model = transposed(node("Conv", "x w b", "v", strides=[2] * 3), (2, 2, 31))
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["patch_embedding"] == 1
    assert_same(rewritten, model)


@pytest.mark.parametrize(
    ("embedding", "y"),
    [
        (conv(strides=[1] * 3), EXTENTS),
        (conv(strides=[2, 1, 2]), (3, 6, 32)),
        (conv(strides=[2, 2, 5]), (3, 3, 13)),
        (conv(dilations=[1, 1, 2]), (3, 3, 31)),
        (conv("x w_grouped b", group=2), RESULT),
        (conv("x w_made b"), RESULT),
    ],
    ids=["no stride", "an axis without stride", "short rows", "dilation", "groups", "made weight"],
)
def test_other_convolutions_stay(embedding: NodeProto, y: tuple[int, ...]) -> None:
    channels = 4
    weight = WEIGHTS["w"][:channels]
    constants = {"w": weight, "b": WEIGHTS["b"][:channels], "w_grouped": weight[:, :1]}
    nodes = [
        node("Add", "w w", "w_made"),
        embedding,
        node("Transpose", "v", "y", perm=TO_TOKENS),
    ]
    model = model_of(nodes, constants, x=["batch", CIN, *EXTENTS], y=["batch", *y, channels])
    assert rewrite_for_cpu(model)[1]["patch_embedding"] == 0


@pytest.mark.parametrize(
    ("readers", "y"),
    [
        ([node("Relu", "v", "y")], (COUT, *RESULT)),
        ([node("Transpose", "v", "y", perm=[0, 3, 2, 4, 1])], (*RESULT, COUT)),
        (
            [
                node("Transpose", "v", "t", perm=TO_TOKENS),
                node("Shape", "v", "s"),
                node("Reshape", "t s", "y"),
            ],
            (COUT, *RESULT),
        ),
    ],
    ids=["another op", "another order", "two readers"],
)
def test_volumes_that_stay_volumes(readers: list[NodeProto], y: tuple[int, ...]) -> None:
    model = model_of([conv(), *readers], WEIGHTS, x=["batch", CIN, *EXTENTS], y=["batch", *y])
    assert rewrite_for_cpu(model)[1]["patch_embedding"] == 0
