from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu

RANDOM = np.random.default_rng(0)
NARROW, WIDE, OUT, EPSILON = 6, 32, 5, 1e-5


def constants(*, narrow: int = NARROW, projection_scale: float = 1.0) -> dict[str, np.ndarray]:
    random = {
        "P": (narrow, WIDE),
        "b": (WIDE,),
        "g": (WIDE,),
        "d": (WIDE,),
        "W": (WIDE, OUT),
    }
    values = {name: RANDOM.standard_normal(s, dtype=np.float32) for name, s in random.items()}
    values["P"] *= projection_scale
    return values


def mixed(values: dict[str, np.ndarray], *, volume: bool = False) -> Any:
    """Build ``LN(x P + b) W`` on eight tokens, a volume of 2 x 2 x 2 before W if asked for."""
    nodes = [
        helper.make_node("MatMul", ["x", "P"], ["projected"], "projected"),
        helper.make_node("Add", ["projected", "b"], ["biased"], "biased"),
        helper.make_node(
            "LayerNormalization", ["biased", "g", "d"], ["normed"], "normed", epsilon=EPSILON
        ),
    ]
    value = "normed"
    if volume:
        values = {**values, "extents": np.array([-1, 2, 2, 2, WIDE])}
        nodes.append(helper.make_node("Reshape", ["normed", "extents"], ["volume"], "volume"))
        value = "volume"
    nodes.append(helper.make_node("MatMul", [value, "W"], ["y"], "y"))
    inner: list[int | str] = [2, 2, 2] if volume else [8]
    narrow = values["P"].shape[0]
    return model_of(nodes, values, x=["batch", 8, narrow], y=["batch", *inner, OUT])


def exact(values: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Compute the definition in float64."""
    wide = {name: array.astype(np.float64) for name, array in values.items()}
    projected = x.astype(np.float64) @ wide["P"] + wide["b"]
    centred = projected - projected.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    result: np.ndarray = (normed * wide["g"] + wide["d"]) @ wide["W"]
    return result


@pytest.mark.parametrize("volume", [True, False])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_wide_norm_is_never_made(volume: bool, size: float) -> None:
    values = constants()
    model = mixed(values, volume=volume)
    folded, counts = rewrite_for_cpu(model)
    assert counts["norm_fold"] == 1
    assert "LayerNormalization" not in operators(folded)
    x = (size * RANDOM.standard_normal((2, 8, NARROW))).astype(np.float32)
    expected = exact(values, x)
    found = run(folded, {"x": x}).reshape(expected.shape)
    # Outputs reach 30: a few roundings of float32.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_it_is_as_exact_as_the_norm_where_epsilon_decides() -> None:
    """Projections that all but vanish, with a bias that is equal everywhere: variance is tiny."""
    values = constants(projection_scale=1e-4)
    values["b"][:] = 3.0
    x = RANDOM.standard_normal((2, 8, NARROW), dtype=np.float32)
    model = mixed(values)
    folded, counts = rewrite_for_cpu(model)
    assert counts["norm_fold"] == 1
    expected = exact(values, x)
    error = np.abs(run(folded, {"x": x}) - expected).max()
    assert error <= np.abs(run(model, {"x": x}) - expected).max()


def test_a_wide_input_stays() -> None:
    assert rewrite_for_cpu(mixed(constants(narrow=WIDE)))[1]["norm_fold"] == 0
