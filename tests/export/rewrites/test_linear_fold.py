from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.standard_normal((2, 7, 6), dtype=np.float32)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def chain(*, middle: int, bias: bool, scale_first: bool) -> Any:
    """Build ``g * (((x A) B) + b)``, six channels to `middle` to four."""
    constants = {"A": weight(6, middle), "B": weight(middle, 4), "g": weight(4)}
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["inner"], "inner"),
        helper.make_node("MatMul", ["inner", "B"], ["outer"], "outer"),
    ]
    if bias:
        constants["b"] = weight(4)
        nodes.append(helper.make_node("Add", ["outer", "b"], ["biased"], "biased"))
    value = "biased" if bias else "outer"
    operands = ["g", value] if scale_first else [value, "g"]
    nodes.append(helper.make_node("Mul", operands, ["y"], "scaled"))
    return model_of(nodes, constants, x=["batch", 7, 6], y=["batch", 7, 4])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale_first", [True, False])
def test_matrices_and_scales_become_one_product(bias: bool, scale_first: bool) -> None:
    model = chain(middle=5, bias=bias, scale_first=scale_first)
    folded, counts = rewrite_for_cpu(model)
    assert counts["linear_fold"] == 2
    assert operators(folded) == (["MatMul", "Add"] if bias else ["MatMul"])
    # Sums of thirty products of order one, added up in another order.
    np.testing.assert_allclose(run(folded, {"x": TOKENS}), run(model, {"x": TOKENS}), atol=3e-5)


@pytest.mark.parametrize("volume", [True, False])
def test_a_scale_and_a_shift_before_a_product_go_into_it(volume: bool) -> None:
    """Each of six channels, of eight tokens or of a volume that becomes them."""
    nodes = [
        helper.make_node("Mul", ["g", "x"], ["scaled"], "scaling"),
        helper.make_node("Add", ["scaled", "d"], ["shifted"], "shifting"),
        helper.make_node("Reshape", ["shifted", "flat"], ["tokens"], "flattening"),
        helper.make_node(
            "MatMul", ["tokens" if volume else "shifted", "A"], ["product"], "product"
        ),
        helper.make_node("Add", ["product", "b"], ["y"], "biased"),
    ]
    if not volume:
        del nodes[2]
    constants = {"g": weight(6), "d": weight(6), "A": weight(6, 4), "b": weight(4)}
    if volume:
        constants["flat"] = np.array([-1, 8, 6])
    extents: list[int | str] = [2, 2, 2] if volume else [8]
    model = model_of(nodes, constants, x=["batch", *extents, 6], y=["batch", 8, 4])
    folded, _ = rewrite_for_cpu(model)
    assert operators(folded) == ["Reshape", "MatMul", "Add"][not volume :]
    x = weight(2, *extents, 6)  # type: ignore[arg-type]
    np.testing.assert_allclose(run(folded, {"x": x}), run(model, {"x": x}), atol=3e-5)


def test_a_narrow_middle_saves_products_and_stays() -> None:
    folded, _ = rewrite_for_cpu(chain(middle=1, bias=False, scale_first=True))
    assert operators(folded) == ["MatMul", "MatMul"]


def test_what_others_read_stays() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["inner"], "inner"),
        helper.make_node("MatMul", ["inner", "B"], ["outer"], "outer"),
        helper.make_node("Add", ["inner", "outer"], ["y"], "sum"),
    ]
    constants = {"A": weight(6, 6), "B": weight(6, 6)}
    model = model_of(nodes, constants, x=["batch", 7, 6], y=["batch", 7, 6])
    assert rewrite_for_cpu(model)[1]["linear_fold"] == 0
