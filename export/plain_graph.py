"""Networks in standard operators alone: every scan replaced by its parallel body."""

from __future__ import annotations

import onnx
from onnx import inliner, shape_inference

from segmaformer.export.function_body import ScanSignature, node_signature
from segmaformer.export.parallel_body import parallel_scan_function
from segmaformer.export.scan_op import OP_TYPE, scan_nodes, shape_of_scan
from segmaformer.export.token_ops import inline_token_functions

STANDARD = ("", "ai.onnx")
LOOPS = ("Scan", "Loop", "If")


def plain_graph(model: onnx.ModelProto, *, batch: int | None = None) -> onnx.ModelProto:
    """Copy `model` without functions, loops or operators of this project.

    Parameters
    ----------
    model
        Variant of a package; its scans lie in the main graph.
    batch
        Batch size to fix; None leaves it free.

    Raises
    ------
    ValueError
        The length of a scan does not follow from the model's inputs, or another operator than
        the scan is not standard.
    """
    plain = _with_batch(inline_token_functions(model), batch)
    _give_bodies(plain, _shapes(plain))
    plain = inliner.inline_local_functions(plain)
    standard = [opset for opset in plain.opset_import if opset.domain in STANDARD]
    del plain.opset_import[:]
    plain.opset_import.extend(standard)
    check_plain(plain)
    return plain


def check_plain(model: onnx.ModelProto) -> None:
    """Refuse a model that has anything but standard operators, or loops.

    Raises
    ------
    ValueError
        There is such an operator; the message names the first.
    """
    for node in model.graph.node:
        if node.domain not in STANDARD or node.op_type in LOOPS:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ValueError(
                f"the network holds {name} ({node.name or 'unnamed'}); only standard operators "
                "without loops can be built; export the package again"
            )
    if model.functions:
        raise ValueError(f"the network still holds the function {model.functions[0].name}")


def _with_batch(model: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    if batch is not None:
        for value in (*copy.graph.input, *copy.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    return copy


def _give_bodies(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Replace each scan by a call of a function for its signature and shape, in place."""
    del model.functions[:]
    names: dict[tuple[ScanSignature, int, int, int], str] = {}
    for node in scan_nodes(model):
        length, channels = _extents(shapes, node.input[0])
        states = _extents(shapes, node.input[3])[1]
        key = (node_signature(node), length, channels, states)
        if key not in names:
            names[key] = f"{OP_TYPE}_{len(names)}"
            function = parallel_scan_function(
                key[0], length=length, channels=channels, states=states, name=names[key]
            )
            model.functions.append(function)
        node.op_type = names[key]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Infer the extents of every value; 0 for free ones."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    del seen.functions[:]
    seen.functions.append(shape_of_scan())
    graph = shape_inference.infer_shapes(seen, strict_mode=True, data_prop=True).graph
    values = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
    }
    return {**values, **{tensor.name: tuple(tensor.dims) for tensor in graph.initializer}}


def _extents(shapes: dict[str, tuple[int, ...]], name: str) -> tuple[int, int]:
    """Return length and width of a scan's stream (B, L, width)."""
    shape = shapes.get(name, ())
    if len(shape) != 3 or not all(shape[1:]):
        raise ValueError(
            f"the scan's input {name} has the shape {shape or 'unknown'}; its length and width "
            "must follow from the tile. Export the package again"
        )
    return shape[1], shape[2]
