from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from support.graphs.graphs import logits_of, model_of, operators, run

from segmaformer.export.plain_graph import plain_graph
from segmaformer.export.rewrites import rewrite_for_cpu, rewrite_norms
from segmaformer.export.rewrites.instance_norm import in_three_axes

RANDOM = np.random.default_rng(0)
C = 6
NORM = {
    "g": RANDOM.standard_normal(C).astype(np.float32),
    "b": RANDOM.standard_normal(C).astype(np.float32),
}


def norm_model(extents: tuple[int, ...], activation: dict[str, Any] | None = None) -> Any:
    """Build a norm of (B, C, *extents), followed by an operator with its attributes."""
    shape = ["batch", C, *extents]
    nodes = [
        helper.make_node("InstanceNormalization", ["x", "g", "b"], ["n"], "norm", epsilon=1e-3)
    ]
    given = activation or {"op_type": "Neg"}
    nodes.append(helper.make_node(inputs=["n"], outputs=["y"], name="after", **given))
    return model_of(nodes, NORM, x=shape, y=shape)


def exact(x: np.ndarray) -> np.ndarray:
    """Compute the norm in float64."""
    axes = tuple(range(2, x.ndim))
    wide = x.astype(np.float64)
    scale, bias = (NORM[n].reshape(-1, *[1] * len(axes)) for n in ("g", "b"))
    mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    result: np.ndarray = (wide - mean) / np.sqrt(variance + 1e-3) * scale + bias
    return result


def leaky(alpha: float) -> dict[str, Any]:
    return {"op_type": "LeakyRelu", "alpha": alpha}


@pytest.mark.parametrize(
    ("activation", "left"),
    [
        (None, ["InstanceNorm", "Neg"]),
        ({"op_type": "Relu"}, ["InstanceNorm"]),
        (leaky(0.01), ["InstanceNorm"]),
        (leaky(-0.5), ["InstanceNorm", "LeakyRelu"]),
        (leaky(2.0), ["InstanceNorm", "LeakyRelu"]),
    ],
)
@pytest.mark.parametrize("rewrite", [rewrite_norms, rewrite_for_cpu])
def test_volumes(rewrite: Any, activation: dict[str, Any] | None, left: list[str]) -> None:
    model = norm_model((3, 4, 5), activation)
    rewritten, counts = rewrite(model)
    assert counts["instance_norm"] == 1
    assert operators(rewritten) == left
    x = RANDOM.standard_normal((2, C, 3, 4, 5)).astype(np.float32)
    # A dozen roundings of values below 4.
    np.testing.assert_allclose(run(rewritten, {"x": x}), run(model, {"x": x}), atol=3e-6)


@pytest.mark.parametrize("extents", [(35,), (37,), (6, 9)])
def test_other_ranks_are_seen_as_volumes(extents: tuple[int, ...]) -> None:
    model = norm_model(extents, {"op_type": "Relu"})
    rewritten, _ = rewrite_norms(model)
    assert operators(rewritten) == ["Reshape", "InstanceNorm", "Reshape"]
    x = RANDOM.standard_normal((2, C, *extents)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, {"x": x}), run(model, {"x": x}), atol=3e-6)


def test_what_else_reads_the_norm_gets_the_norm() -> None:
    nodes = [
        helper.make_node("InstanceNormalization", ["x", "g", "b"], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["positive"], "relu"),
        helper.make_node("Add", ["n", "positive"], ["y"], "sum"),
    ]
    model = model_of(nodes, NORM, x=["batch", C, 2, 2, 3], y=["batch", C, 2, 2, 3])
    rewritten, _ = rewrite_norms(model)
    assert operators(rewritten) == ["InstanceNorm", "Relu", "Add"]
    x = RANDOM.standard_normal((1, C, 2, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, {"x": x}), run(model, {"x": x}), atol=3e-6)


@pytest.mark.parametrize("extents", [(96, 96, 96), (96 * 96 * 96,)])
@pytest.mark.parametrize("op_library", [True, False])
def test_a_flat_background_costs_no_digits(extents: tuple[int, ...], op_library: bool) -> None:
    """Nine tenths of the volume have one value, as outside a body.

    Of values up to 15, the kernel loses a few roundings; the body adds 96 values up at a time and
    may lose as many units in their last place, some 1e-6. One float32 run loses 1e-3 of them.
    """
    nodes = [
        helper.make_node("InstanceNormalization", ["tiles", "g", "b"], ["n"], "norm", epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["y"], "after"),
    ]
    model = model_of(nodes, NORM, x=["batch", C, *extents], y=["batch", C, *extents], name="tiles")
    x = np.full((1, C, 96, 96, 96), 0.7, np.float32)
    x[:, :, 30:70, 30:70, 10:80] += RANDOM.standard_normal((1, C, 40, 40, 70)).astype(np.float32)
    x = x.reshape(1, C, *extents)
    found = logits_of(rewrite_norms(model)[0], x, op_library=op_library)
    expected = np.maximum(exact(x), 0)
    assert np.abs(found - expected).max() < 2e-6 * expected.max()


def test_the_plain_graph_has_standard_operators_in_short_sums() -> None:
    plain = plain_graph(rewrite_norms(norm_model((3, 4, 5)))[0])
    assert "InstanceNormalization" not in operators(plain)
    assert operators(plain).count("ReduceMean") == 6
    x = RANDOM.standard_normal((2, C, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(plain, {"x": x}), -exact(x), atol=3e-6)


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=3))
def test_three_axes_have_as_many_voxels(extents: list[int]) -> None:
    assert math.prod(in_three_axes(extents)) == math.prod(extents)


@pytest.mark.parametrize(
    ("size", "longest"), [(36 * 32**3, 128), (96**3, 96), (7919, 7919), (1, 1)]
)
def test_the_longest_axis_is_short_where_it_can_be(size: int, longest: int) -> None:
    assert max(in_three_axes([size])) <= longest
