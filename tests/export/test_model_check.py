from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")

from onnx import TensorProto, helper, numpy_helper

from segmaformer.export.model_check import check_model


def model(op_type: str = "MatMul", inputs: tuple[str, ...] = ("x", "weight")) -> onnx.ModelProto:
    """One node that reads a weight too large for the checker to be given its values."""
    weight = numpy_helper.from_array(np.ones((40, 40), np.float32), "weight")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 40]) for name in ("x", "y")]
    node = helper.make_node(op_type, inputs, ["y"])
    graph = helper.make_graph([node], "network", info[:1], info[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_sound_model_stays_as_it_was() -> None:
    sound = model()
    before = sound.SerializeToString(deterministic=True)
    check_model(sound)
    assert sound.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("op_type", "inputs", "message"),
    [
        ("MatMull", ("x", "weight"), "No Op registered for MatMull"),
        ("MatMul", ("x",), "input size"),
    ],
)
def test_what_is_not_well_formed_is_refused(
    op_type: str, inputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(onnx.checker.ValidationError, match=message):
        check_model(model(op_type, inputs))
