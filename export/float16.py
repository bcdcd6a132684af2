"""Typed float16 graphs: casts are in the file, so no builder flag decides precision.

Convolutions, matrix products and the scan's streams are float16. Operators that sum or normalise
over many values stay float32: norm statistics, softmax, interpolation and, inside the scan, state
and accumulation (A, D and its bias are float32 inputs). The graph's input and output stay
float32. Where rounding changes labels, more operators stay float32, one rung of a ladder after the
other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from segmaformer.export.model_check import check_model
from segmaformer.export.scan_op import DOMAIN, FLOAT32_INPUTS, INPUTS, OP_TYPE

FLOAT32_OPS = frozenset(
    {
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "BatchNormalization",
        "Softmax",
        "Resize",
        "ReduceMean",
        "ReduceSum",
    }
)
"""Operators that compute in float32 and give float16."""

ELEMENTWISE_OPS = frozenset({"Add", "Mul", "Sub", "Div", "Erf", "Sigmoid"})
MATRIX_OPS = frozenset({"MatMul", "Gemm"})
CONV_1D = "Conv1d"
"""Name here of a convolution along a sequence, as Mamba layers have before the scan."""
MAMBA_OPS = (
    ELEMENTWISE_OPS | MATRIX_OPS | {CONV_1D, OP_TYPE, "Transpose", "Reshape", "Split", "Slice"}
)
"""Operators of a Mamba layer, those that move tokens included."""
FLOAT32_MAMBA = frozenset({"umamba-bot", "umamba-enc"})
"""Networks whose authors keep Mamba layers in float32, also under autocast."""


@dataclass(frozen=True)
class Rung:
    """Operators that stay in float32, and what they are called in the manifest."""

    name: str
    float32_ops: frozenset[str]


def float32_ladder(network: str) -> tuple[Rung, ...]:
    """List the rungs to try in turn if rounding to float16 changes labels.

    Parameters
    ----------
    network
        Name of the network, such as ``umamba-bot``.
    """
    base, kept = FLOAT32_OPS, "norms, sums and interpolation"
    if network in FLOAT32_MAMBA:
        base, kept = base | MAMBA_OPS, f"{kept}, Mamba layers"
    rungs = [Rung(f"{kept} in float32", base)]
    for name, more in (
        ("elementwise operators", ELEMENTWISE_OPS),
        ("matrix products", MATRIX_OPS),
        ("scans and convolutions", frozenset({OP_TYPE, CONV_1D, "Conv", "ConvTranspose"})),
    ):
        base, kept = base | more, f"{kept}, {name}"
        rungs.append(Rung(f"{kept} in float32", base))
    return tuple(rungs)


LARGEST = float(np.finfo(np.float16).max)


def to_float16(
    model: onnx.ModelProto, *, float32_ops: frozenset[str] = FLOAT32_OPS
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Convert a float32 model.

    Parameters
    ----------
    model
        Rewritten float32 model; its functions take any element type.
    float32_ops
        Operator types to leave in float32.

    Returns
    -------
    model, precision
        The typed model, and the element type by operator type.

    Raises
    ------
    ValueError
        A weight lies beyond float16's range of 65,504.
    """
    graph_model = ir.from_proto(model)
    precision = _Caster(graph_model.graph, float32_ops).run()
    common.RemoveUnusedNodesPass()(graph_model)
    converted = ir.to_proto(graph_model)
    del converted.graph.value_info[:]
    check_model(converted)
    return converted, precision


class _Caster:
    """Pass over the graph in order that keeps, for each float value, a copy in either type."""

    def __init__(self, graph: ir.Graph, float32_ops: frozenset[str]):
        self._graph = graph
        self._float32_ops = float32_ops
        self._types: dict[ir.Value, ir.DataType] = {}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._precision: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        for value in (*self._graph.inputs, *self._graph.initializers.values()):
            if value.dtype == ir.DataType.FLOAT:
                self._types[value] = ir.DataType.FLOAT
        for node in list(self._graph):
            self._convert(node)
        for index, output in enumerate(self._graph.outputs):
            self._restore_output(index, output)
        return dict(sorted(self._precision.items()))

    def _convert(self, node: ir.Node) -> None:
        floats = [index for index, value in enumerate(node.inputs) if value in self._types]
        if not floats and not self._makes_float(node):
            return
        wanted = self._type_of(node)
        if not floats:
            self._types[node.outputs[0]] = ir.DataType.FLOAT
            return
        for index in floats:
            kind = self._input_type(node, index, wanted)
            value = node.inputs[index]
            if value is not None:
                node.replace_input_with(index, self._as(value, kind, node))
        if node.op_type == "Shape":
            return
        self._precision[_kind(node)] = "float16" if wanted == ir.DataType.FLOAT16 else "float32"
        for output in node.outputs:
            self._types[output] = output.dtype = wanted

    @staticmethod
    def _makes_float(node: ir.Node) -> bool:
        constant = ir.convenience.get_const_tensor(node.outputs[0])
        return constant is not None and constant.dtype == ir.DataType.FLOAT

    def _type_of(self, node: ir.Node) -> ir.DataType:
        # This project's other ops only have float32 kernels.
        others = node.domain == DOMAIN and node.op_type != OP_TYPE
        keep = others or _kind(node) in self._float32_ops
        return ir.DataType.FLOAT if keep else ir.DataType.FLOAT16

    @staticmethod
    def _input_type(node: ir.Node, index: int, wanted: ir.DataType) -> ir.DataType:
        if node.domain == DOMAIN and node.op_type == OP_TYPE and INPUTS[index] in FLOAT32_INPUTS:
            return ir.DataType.FLOAT
        # Resize: roi and scales (inputs 1 and 2) are float32 by definition or unused.
        return ir.DataType.FLOAT if node.op_type == "Resize" and index else wanted

    def _as(self, value: ir.Value, kind: ir.DataType, before: ir.Node) -> ir.Value:
        """Return `value` in type `kind`: itself, its source before a cast, or a new cast."""
        if self._types[value] == kind:
            return value
        if (value, kind) not in self._casts:
            self._casts[value, kind] = self._cast(value, kind, before)
        return self._casts[value, kind]

    def _cast(self, value: ir.Value, kind: ir.DataType, before: ir.Node) -> ir.Value:
        name = f"{value.name}_{'float16' if kind == ir.DataType.FLOAT16 else 'float32'}"
        if value.is_initializer() and value.const_value is not None:
            return self._converted_initializer(value, value.const_value.numpy(), name)
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(kind))], name=name)
        output = node.outputs[0]
        output.name, output.dtype, output.shape = name, kind, value.shape
        self._graph.insert_before(before, node)
        self._types[output] = kind
        return output

    def _converted_initializer(self, value: ir.Value, array: np.ndarray, name: str) -> ir.Value:
        if array.size and np.abs(array).max() > LARGEST:
            raise ValueError(
                f"{value.name} reaches {np.abs(array).max():g}, beyond float16's {LARGEST:g}; "
                "export without --fp16"
            )
        tensor = ir.tensor(array.astype(np.float16), name=name)
        converted = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype))
        converted.shape = value.shape
        self._graph.register_initializer(converted)
        self._types[converted] = ir.DataType.FLOAT16
        return converted

    def _restore_output(self, index: int, output: ir.Value) -> None:
        """Give the graph its float32 output under its old name."""
        if self._types.get(output) != ir.DataType.FLOAT16:
            return
        name = output.name
        output.name = f"{name}_float16"
        node = ir.Node("", "Cast", [output], [ir.AttrInt64("to", int(ir.DataType.FLOAT))])
        final = node.outputs[0]
        final.name, final.dtype, final.shape = name, ir.DataType.FLOAT, output.shape
        self._graph.append(node)
        self._graph.outputs[index] = final


def _kind(node: ir.Node) -> str:
    """Return the operator type, or :data:`CONV_1D` for a convolution of (B, C, L)."""
    if node.op_type == "Conv" and not node.domain:
        weight = node.inputs[1]
        if weight is not None and weight.shape is not None and len(weight.shape) == 3:
            return CONV_1D
    return node.op_type
