"""Hand-written network with one layer of each kind, for tests of calibration and placement."""

from __future__ import annotations

from typing import Any

import numpy as np

CHANNELS = 16
TILE = (6, 8, 10)
DENSE = ("pointwise", "conv", "matmul")
ALL = ("embed", "depthwise", *DENSE, "last")


def small_network(*, seed: int = 0, scale: float = 1.0) -> Any:
    """Build a model of one input channel and three logits on tiles of TILE, float32.

    embed (1 -> 16), depthwise, pointwise, conv, matmul, last (16 -> 3).
    """
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> Any:
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        values = random.normal(size=shape) / np.sqrt(fan_in) * scale
        return numpy_helper.from_array(values.astype(np.float32), name)

    c, voxels = CHANNELS, int(np.prod(TILE))
    node = helper.make_node
    nodes = [
        node("Conv", ["tiles", "w_embed", "b_embed"], ["e"], "embed", pads=[1] * 6),
        node("Conv", ["e", "w_dw", "b_dw"], ["d"], "depthwise", pads=[1] * 6, group=c),
        node("InstanceNormalization", ["d", "ones", "zeros"], ["n"], "norm"),
        node("Relu", ["n"], ["r"], "relu"),
        node("Conv", ["r", "w_point"], ["p"], "pointwise"),
        node("Conv", ["p", "w_conv", "b_conv"], ["k"], "conv", pads=[1] * 6),
        node("Reshape", ["k", "to_tokens"], ["k_flat"], "flatten"),
        node("Transpose", ["k_flat"], ["t"], "to_tokens_", perm=[0, 2, 1]),
        node("MatMul", ["t", "w_matmul"], ["m"], "matmul"),
        node("Transpose", ["m"], ["m_back"], "back", perm=[0, 2, 1]),
        node("Reshape", ["m_back", "to_grid"], ["s"], "to_grid_"),
        node("Conv", ["s", "w_last", "b_last"], ["logits"], "last"),
    ]
    constants = [
        weight("w_embed", c, 1, 3, 3, 3),
        weight("w_dw", c, 1, 3, 3, 3),
        weight("w_point", c, c, 1, 1, 1),
        weight("w_conv", c, c, 3, 3, 3),
        weight("w_matmul", c, c),
        weight("w_last", 3, c, 1, 1, 1),
        *(weight(f"b_{name}", c) for name in ("embed", "dw", "conv")),
        weight("b_last", 3),
        numpy_helper.from_array(np.ones(c, np.float32), "ones"),
        numpy_helper.from_array(np.zeros(c, np.float32), "zeros"),
        numpy_helper.from_array(np.array([0, c, voxels]), "to_tokens"),
        numpy_helper.from_array(np.array([0, c, *TILE]), "to_grid"),
    ]
    tiles = helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["batch", 1, *TILE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, *TILE])
    graph = helper.make_graph(nodes, "small", [tiles], [logits], constants)
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def run(model: Any, tiles: np.ndarray, outputs: list[str] | None = None) -> list[np.ndarray]:
    """Run a model in ONNX Runtime; returns its outputs."""
    import onnxruntime

    from segmaformer.runtime.backends.onnxruntime_cpu import EXACT_INT8

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_INT8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    result: list[np.ndarray] = session.run(outputs, {"tiles": tiles})
    return result


def some_tiles(count: int = 1, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 1, *TILE)).astype(np.float32)
