from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu
from segmaformer.export.separate_ops import separate_layers

RANDOM = np.random.default_rng(0)
C, K = 6, 5
GRID = (4, 4, 4)
LENGTH = math.prod(GRID)
TOKENS = RANDOM.standard_normal((2, LENGTH, C), dtype=np.float32)
COARSE = {"first": (2, 2, 2), "second": (4, 2, 2), "third": (1, 1, 1)}


def weight(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


WEIGHTS = {
    "W": weight(C, K),
    "V": weight(C, K),
    "square": weight(C, C),
    "b": weight(K),
    "c": weight(C),
    "scale": weight(C),
    "shift": weight(C),
    "taps": weight(C, 1, 3, 3, 3),
    "root_two": np.array(math.sqrt(2), np.float32),
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
    "grid": np.array([0, C, *GRID]),
    "flat": np.array([0, C, LENGTH]),
}


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], f"{output}_node", **attributes)


def model(nodes: list[NodeProto], channels: int, **constants: np.ndarray) -> Any:
    """Build a model of (B, LENGTH, C) tokens with those constants that `nodes` read."""
    read = {name for each in nodes for name in each.input}
    used = {name: array for name, array in (WEIGHTS | constants).items() if name in read}
    return model_of(nodes, used, x=["batch", LENGTH, C], y=["batch", LENGTH, channels])


def normed(**attributes: Any) -> NodeProto:
    return node("LayerNormalization", "x scale shift", "n", **attributes)


def instance_normed(activation: list[NodeProto]) -> list[NodeProto]:
    """Build nodes from tokens to ``a``, those of a convolved and normed volume."""
    return [
        node("Transpose", "x", "turned", perm=[0, 2, 1]),
        node("Reshape", "turned grid", "v"),
        node("Conv", "v taps", "convolved", group=C, pads=[1] * 6),
        node("InstanceNormalization", "convolved scale shift", "normed"),
        *activation,
        node("Reshape", "activated flat", "flattened"),
        node("Transpose", "flattened", "a", perm=[0, 2, 1]),
    ]


RELU = [node("Relu", "normed", "activated")]
GELU = [
    node("Div", "normed root_two", "divided"),
    node("Erf", "divided", "erf"),
    node("Add", "erf one", "erf_one"),
    node("Mul", "half erf_one", "halved"),
    node("Mul", "normed halved", "activated"),
]


def decoder() -> Any:
    """Build a product to which three coarse products are added after upsampling."""
    constants: dict[str, np.ndarray] = {
        "first_token": np.array([0]),
        "tokens": np.array([1]),
        "volume": np.array([0, K, *GRID]),
    }
    nodes = [
        node("MatMul", "x W", "p"),
        node("Add", "p b", "biased"),
        node("Transpose", "biased", "turned", perm=[0, 2, 1]),
        node("Reshape", "turned volume", "sum"),
    ]
    total = "sum"
    for name, extents in COARSE.items():
        constants |= {
            f"{name}_count": np.array([math.prod(extents)]),
            f"{name}_volume": np.array([0, K, *extents]),
            f"{name}_scales": np.array(
                [1, 1, *(n / m for n, m in zip(GRID, extents, strict=True))], np.float32
            ),
            f"{name}_weight": weight(C, K),
        }
        nodes += [
            node("Slice", f"x first_token {name}_count tokens", f"{name}_x"),
            node("MatMul", f"{name}_x {name}_weight", f"{name}_p"),
            node("Transpose", f"{name}_p", f"{name}_turned", perm=[0, 2, 1]),
            node("Reshape", f"{name}_turned {name}_volume", f"{name}_low"),
            helper.make_node(
                "Resize", [f"{name}_low", "", f"{name}_scales"], [f"{name}_up"], mode="linear"
            ),
            node("Add", f"{name}_up {total}", f"{name}_sum"),
        ]
        total = f"{name}_sum"
    constants["wide"] = np.array([0, K, LENGTH])
    nodes += [
        node("Reshape", f"{total} wide", "flattened"),
        node("Transpose", "flattened", "y", perm=[0, 2, 1]),
    ]
    return model(nodes, K, **constants)


CASES: dict[str, tuple[Any, dict[str, int]]] = {
    "norm, product and bias": (
        model([normed(epsilon=1e-3), node("MatMul", "n W", "p"), node("Add", "b p", "y")], K),
        {"NormLinear": 1, "LayerNormalization": 0, "Add": 0},
    ),
    "a norm that two products read": (
        model(
            [
                normed(),
                node("MatMul", "n W", "p"),
                node("MatMul", "n V", "q"),
                node("Mul", "p q", "y"),
            ],
            K,
        ),
        {"NormLinear": 2, "LayerNormalization": 0, "MatMul": 0},
    ),
    "a norm without a shift": (
        model([node("LayerNormalization", "x scale", "n"), node("MatMul", "n W", "y")], K),
        {"NormLinear": 1},
    ),
    "product, bias and residual": (
        model(
            [
                node("MatMul", "x square", "p"),
                node("Add", "p c", "biased"),
                node("Add", "x biased", "y"),
            ],
            C,
        ),
        {"LinearAdd": 1, "Add": 0},
    ),
    "product and residual": (
        model([node("MatMul", "x square", "p"), node("Add", "p x", "y")], C),
        {"LinearAdd": 1, "Add": 0},
    ),
    "instance norm, GELU, product, bias and residual": (
        model(
            [
                *instance_normed(GELU),
                node("MatMul", "a square", "p"),
                node("Add", "p c", "biased"),
                node("Add", "x biased", "y"),
            ],
            C,
        ),
        {"InstanceNormGeluLinearAdd": 1, "InstanceNormGelu": 0, "MatMul": 0},
    ),
    "product and upsampled products": (
        decoder(),
        {"LinearUpsampleAdd": 1, "UpsampleAdd": 0, "MatMul": 3},
    ),
}


@pytest.mark.parametrize(("model", "expected"), CASES.values(), ids=CASES)
def test_becomes_one_op(model: Any, expected: dict[str, int]) -> None:
    rewritten, _ = rewrite_for_cpu(model)
    found = operators(rewritten)
    assert {name: found.count(name) for name in expected} == expected
    # Sums of a few products of order one, added up in another order.
    np.testing.assert_allclose(
        run(rewritten, {"x": TOKENS}), run(model, {"x": TOKENS}), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("model", "expected"), CASES.values(), ids=CASES)
def test_its_product_can_be_a_node_again(model: Any, expected: dict[str, int]) -> None:
    """As the choice of int8 layers needs it, with the values of the one op."""
    joined, _ = rewrite_for_cpu(model)
    separate = onnx.ModelProto()
    separate.CopyFrom(joined)
    separate_layers(separate)
    onnx.checker.check_model(separate)
    found = operators(separate)
    assert found.count("MatMul") == operators(model).count("MatMul")
    assert not {name for name, count in expected.items() if count} & ({*found} - {"MatMul"})
    assert len({node.name for node in separate.graph.node}) == len(found)
    np.testing.assert_allclose(
        run(separate, {"x": TOKENS}), run(joined, {"x": TOKENS}), rtol=1e-4, atol=1e-4
    )


LEFT_ALONE: dict[str, Any] = {
    "a norm that something else reads": model(
        [normed(), node("MatMul", "n square", "p"), node("Mul", "n p", "y")], C
    ),
    "a product alone": model([node("MatMul", "x square", "p"), node("Mul", "p x", "y")], C),
    "a sum of values that others read": model(
        [node("MatMul", "x square", "p"), node("Add", "p x", "s"), node("Mul", "p s", "y")], C
    ),
    "a residual that is broadcast": model(
        [node("MatMul", "x W", "p"), node("ReduceMax", "x", "r"), node("Add", "p r", "y")], K
    ),
}


@pytest.mark.parametrize("model", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(model: Any) -> None:
    assert rewrite_for_cpu(model)[1]["token_products"] == 0
