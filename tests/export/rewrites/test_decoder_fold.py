from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs.graphs import run

from segmaformer.export.rewrites import apply_rewrites
from segmaformer.export.rewrites.decoder_fold import fold_decoder

RANDOM = np.random.default_rng(0)


def decoder(*, kernel: int = 1, bias: bool = True, mode: str = "linear") -> onnx.ModelProto:
    """Build conv(cat(fine, resize(coarse))) with 2 + 3 channels in and 4 out."""
    weight = RANDOM.standard_normal((4, 5, kernel, kernel, kernel)).astype(np.float32)
    constants = {"weight": weight, "sizes_end": np.array([4, 6, 8])}
    if bias:
        constants["bias"] = RANDOM.standard_normal(4).astype(np.float32)
    nodes = [
        helper.make_node("Shape", ["coarse"], ["start"], start=0, end=2),
        helper.make_node("Concat", ["start", "sizes_end"], ["sizes"], axis=0),
        helper.make_node("Resize", ["coarse", "", "", "sizes"], ["up"], mode=mode),
        helper.make_node("Concat", ["fine", "up"], ["both"], axis=1),
        helper.make_node(
            "Conv",
            ["both", "weight", *(["bias"] if bias else [])],
            ["y"],
            name="fuse",
            pads=[kernel // 2] * 6,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [
            helper.make_tensor_value_info("fine", TensorProto.FLOAT, ["batch", 2, 4, 6, 8]),
            helper.make_tensor_value_info("coarse", TensorProto.FLOAT, ["batch", 3, 2, 3, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 4, 6, 8])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("bias", [True, False])
def test_decoder_fold_changes_nothing_but_the_order(bias: bool) -> None:
    model = decoder(bias=bias)
    folded, counts = apply_rewrites(model)
    assert counts["decoder_fold"] == 1
    assert "Concat" not in [n.op_type for n in folded.graph.node if n.output[0] != "sizes"]
    inputs = {
        "fine": RANDOM.standard_normal((2, 2, 4, 6, 8), dtype=np.float32),
        "coarse": RANDOM.standard_normal((2, 3, 2, 3, 4), dtype=np.float32),
    }
    # Sums of five products of order one, in another order.
    np.testing.assert_allclose(run(folded, inputs), run(model, inputs), atol=5e-6)


@pytest.mark.parametrize("options", [{"kernel": 3}, {"mode": "nearest"}])
def test_decoder_fold_leaves_what_does_not_commute(options: dict[str, object]) -> None:
    model = ir.from_proto(decoder(**options))  # type: ignore[arg-type]
    assert fold_decoder(model.graph) == 0
