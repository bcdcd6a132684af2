"""Models of one ``SelectiveScan`` node, their inputs, and the C function's results."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest

from segmaformer.runtime.bindings.kernel_structs import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    SelectiveScanArgs,
)
from segmaformer.runtime.bindings.op_library import run_selective_scan

onnx = pytest.importorskip("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto

Arrays = dict[str, np.ndarray]

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
REQUIRED, OPTIONAL, PARAMETERS = NAMES[:5], NAMES[5:], ("A", "D", "delta_bias")
ONNX_TYPES = {
    FLOAT32: TensorProto.FLOAT,
    FLOAT16: TensorProto.FLOAT16,
    BFLOAT16: TensorProto.BFLOAT16,
}
NUMPY_TYPES = {FLOAT32: np.float32, FLOAT16: np.float16, BFLOAT16: np.uint16}


def make_inputs(
    element_type: int, optional: tuple[str, ...], *, length: int = 40, states: int = 6
) -> Arrays:
    rng = np.random.default_rng(length)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("u", "delta", "z"), (2, length, 21))
    shapes |= dict.fromkeys(("B", "C"), (2, length, states))
    shapes |= {"A": (21, states), "D": (21,), "delta_bias": (21,)}
    inputs = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32)
        if name == "A":
            values = -np.abs(values)
        if name not in PARAMETERS and element_type == BFLOAT16:
            values = (values.view(np.uint32) >> 16).astype(np.uint16)
        elif name not in PARAMETERS:
            values = values.astype(NUMPY_TYPES[element_type])
        if name in REQUIRED or name in optional:
            inputs[name] = values
    return inputs


def make_model(
    inputs: Arrays,
    element_type: int = FLOAT32,
    *,
    shapes: dict[str, Any] | None = None,
    drop_trailing: bool = False,
    **attributes: int,
) -> Any:
    names = [name if name in inputs else "" for name in NAMES]
    while drop_trailing and not names[-1]:
        names.pop()
    declared = {name: array.shape for name, array in inputs.items()} | (shapes or {})
    node = helper.make_node("SelectiveScan", names, ["y"], domain="segmaformer", **attributes)
    element = ONNX_TYPES[element_type]
    graph = helper.make_graph(
        [node],
        "scan",
        [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT if name in PARAMETERS else element, declared[name]
            )
            for name in inputs
        ],
        [helper.make_tensor_value_info("y", element, None)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("segmaformer", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run_session(session: Any, inputs: Arrays, element_type: int) -> np.ndarray:
    feed = {}
    for name, array in inputs.items():
        element = TensorProto.FLOAT if name in PARAMETERS else ONNX_TYPES[element_type]
        feed[name] = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element)
    (value,) = session.run_with_ort_values(None, feed)
    stored = np.empty(inputs["u"].shape, NUMPY_TYPES[element_type])
    ctypes.memmove(stored.ctypes.data, value.data_ptr(), stored.nbytes)
    return stored


def run_directly(inputs: Arrays, element_type: int, **flags: bool) -> np.ndarray:
    y = np.empty(inputs["u"].shape, NUMPY_TYPES[element_type])
    args = SelectiveScanArgs(
        element_type=element_type,
        **dict(zip(("batch", "length", "channels"), y.shape, strict=True)),
        states=inputs["A"].shape[1],
        y=y.ctypes.data,
        **{name: array.ctypes.data for name, array in inputs.items()},
        **flags,
    )
    run_selective_scan(args, threads=1)
    return y


SUBSETS = [
    tuple(itertools.compress(OPTIONAL, given)) for given in itertools.product((0, 1), repeat=3)
]
