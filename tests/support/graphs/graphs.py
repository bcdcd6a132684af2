"""Hand-written ONNX graphs of one input, and results of graphs in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OPSET = 18
IR_VERSION = 10


def model_of(
    nodes: Sequence[Any],
    constants: Mapping[str, np.ndarray],
    *,
    x: Sequence[int | str],
    y: Sequence[int | str],
    name: str = "x",
) -> Any:
    """Build a checked model from `name` to ``y`` of those shapes, with the shapes in between."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def run(model: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the first output of a valid model, by standard operators alone."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result: np.ndarray = session.run(None, dict(inputs))[0]
    return result


def logits_of(model: Any, tiles: np.ndarray, *, op_library: bool) -> np.ndarray:
    """Run a network with the op library's kernels for its ops, or with their bodies."""
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network
    from segmaformer.runtime.bindings.processors import available_processors

    threads = available_processors()
    session = open_network(model.SerializeToString(), threads=threads, op_library=op_library)
    logits: np.ndarray = session.run(None, {"tiles": tiles})[0]
    return logits


def operators(model: Any) -> list[str]:
    """List the types of the main graph's nodes, in order."""
    return [node.op_type for node in model.graph.node]
