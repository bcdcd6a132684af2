from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from support.graphs.graphs import model_of, operators, run

from segmaformer.export.rewrites import rewrite_for_cpu

RANDOM = np.random.default_rng(0)
GRID, CHANNELS = (2, 3, 4), 12
SWAPPED = [1, 0, 3, 2, 5, 4]


def tables() -> dict[str, np.ndarray]:
    """Draw tables (D, H, W, C) whose thirds each depend on one axis."""
    drawn = {}
    for name in ("cos", "sin"):
        thirds = []
        for axis, extent in enumerate(GRID):
            shape = [extent if i == axis else 1 for i in range(3)]
            third = RANDOM.standard_normal((*shape, CHANNELS // 3), dtype=np.float32)
            thirds.append(np.broadcast_to(third, (*GRID, CHANNELS // 3)))
        drawn[name] = np.concatenate(thirds, -1)
    return drawn


def rotated(constants: dict[str, np.ndarray], *, flat: bool, order: list[int]) -> Any:
    """Build ``LN(x * cos + swapped(x) * sin)``, whose result may be tokens in a row."""
    parts = [f"part_{i}" for i in range(7)]
    nodes: list[NodeProto] = [
        helper.make_node("Split", ["x", "sizes"], parts, "split", axis=-1),
        helper.make_node("Concat", [parts[i] for i in order], ["partner"], "swap", axis=-1),
        helper.make_node("Mul", ["x", "cos"], ["kept"], "kept"),
        helper.make_node("Mul", ["partner", "sin"], ["turned"], "turned"),
        helper.make_node("Add", ["kept", "turned"], ["volume"], "sum"),
        helper.make_node("Reshape", ["volume", "row"], ["tokens"], "flattened"),
        helper.make_node("LayerNormalization", ["tokens", "g", "d"], ["y"], "norm", epsilon=1e-3),
    ]
    if not flat:
        nodes[-1].input[0] = "volume"
        del nodes[-2]
    extents: list[int | str] = [24] if flat else [*GRID]
    values = {
        **constants,
        "sizes": np.array([CHANNELS // 6] * 6 + [0]),
        "g": RANDOM.standard_normal(CHANNELS, dtype=np.float32),
        "d": RANDOM.standard_normal(CHANNELS, dtype=np.float32),
    }
    if flat:
        values["row"] = np.array([-1, 24, CHANNELS])
    x = ["batch", *GRID, CHANNELS]
    return model_of(nodes, values, x=x, y=["batch", *extents, CHANNELS])


@pytest.mark.parametrize("flat", [True, False])
def test_a_rotary_code_and_its_norm_become_one_op(flat: bool) -> None:
    model = rotated(tables(), flat=flat, order=SWAPPED)
    rewritten, counts = rewrite_for_cpu(model)
    assert counts["rotary_norm"] == 1
    assert operators(rewritten) == ["RotaryNorm", "Reshape"][: 1 + flat]
    x = {"x": RANDOM.standard_normal((2, *GRID, CHANNELS), dtype=np.float32)}
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)


def test_a_table_of_two_axes_stays() -> None:
    constants = tables()
    constants["sin"] = constants["sin"] + np.arange(4, dtype=np.float32)[:, None]
    model = rotated(constants, flat=True, order=SWAPPED)
    assert rewrite_for_cpu(model)[1]["rotary_norm"] == 0


def test_other_partners_stay() -> None:
    model = rotated(tables(), flat=True, order=[1, 0, 2, 3, 5, 4])
    assert rewrite_for_cpu(model)[1]["rotary_norm"] == 0
