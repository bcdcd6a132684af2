"""Small networks in ONNX files, as users have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.networks.nnunet_folders import TILE

ONNX_INPUT, ONNX_LOGITS = (1, *TILE), (3, *TILE)
FREE = ("batch", 1, "depth", "height", "width")
Change = Callable[[onnx.ModelProto], object]


def onnx_network(
    *, extents: tuple[Any, ...] = FREE, opset: int = 18, change: Change = lambda model: None
) -> onnx.ModelProto:
    """Convolution, norm and convolution, whose middle values are an output as well."""
    rng = np.random.default_rng(0)
    weights = {"first": (4, 1, 3, 3, 3), "scale": (4,), "shift": (4,), "last": (3, 4, 1, 1, 1)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["volume", "first"], ["logits"], pads=[1] * 6),
            helper.make_node("InstanceNormalization", ["logits", "scale", "shift"], ["normed"]),
            helper.make_node("Relu", ["normed"], ["features"]),
            helper.make_node("Conv", ["features", "last"], ["result"]),
        ],
        "g",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, extents)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("features", "result")
        ],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    change(model)
    return model


def saved_onnx(folder: Path, **options: Any) -> Path:
    path = folder / "network.onnx"
    path.write_bytes(onnx_network(**options).SerializeToString())
    return path
