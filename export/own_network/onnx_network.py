"""A network that is given as an ONNX file: checked, and brought into the form that export has.

Nothing of the file is run before it has been checked: it must hold all of its data, and only
operators of the standard, or this project's scan.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx import shape_inference, version_converter
from onnx.defs import has as is_standard_op
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from segmaformer.export.function_body import add_function_body
from segmaformer.export.model_check import check_model
from segmaformer.export.onnx_export import INPUT, IR_VERSION, OUTPUT, strip_metadata
from segmaformer.export.rewrites import rewrite_norms
from segmaformer.export.scan_op import DOMAIN, OP_TYPE, OPSET, scan_nodes, shape_of_scan
from segmaformer.export.token_ops import add_token_functions, inline_token_functions
from segmaformer.export.verification.parity_gate import ReferenceNames
from segmaformer.runtime.backends.onnxruntime_cpu import open_network, run_network
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.bindings.self_contained import reason_to_refuse
from segmaformer.runtime.errors import BackendError, InputError, ParityError

LARGEST_BYTES = 2**31 - 1
"""Limit of Protocol Buffers, in which ONNX files are written."""

SAME_GRAPH = 1e-4
"""Largest difference over the range of the logits between the file and its converted graph."""

NAMES = ReferenceNames(
    "ONNX Runtime on the given file",
    "ONNX Runtime float32 on the given file",
    "ONNX Runtime with careful norms",
)

_STANDARD = ("", "ai.onnx")
_RECIPE = "torch.onnx.export(..., dynamo=True, opset_version=18, external_data=False)"


class OnnxNetwork(nn.Module):
    """A network in an ONNX file as a module, which ONNX Runtime computes.

    Parameters
    ----------
    content
        Bytes of the file, which :func:`read_onnx` checked.
    graph
        The same network in the form that export has: input ``tiles``, output ``logits``, opset 18,
        every extent but the batch known.
    output
        Place of the logits among the outputs of the file.
    """

    def __init__(self, content: bytes, graph: onnx.ModelProto, output: int):
        super().__init__()
        self.graph, self._output = graph, output
        self._given = _opened(content)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> logits (B, K, D, H, W), of the file as it was given.

        Float64 tiles ask for the more careful computation: still float32, since ONNX Runtime has
        few operators in float64, but with norms that do not sum a whole volume in one run.
        """
        volume = tiles.float().numpy()
        if tiles.dtype == torch.float64:
            careful = inline_token_functions(rewrite_norms(self.graph)[0])
            (logits,) = run_network(_opened(careful.SerializeToString()), volume)
        else:
            logits = run_network(self._given, volume)[self._output]
        return torch.from_numpy(logits).to(tiles.dtype)

    def compare_graph(self, shape: tuple[int, ...]) -> None:
        """Compare the graph with the file on noise (C, D, H, W), where norms lose no digits.

        Only a graph that agrees there may decide where the file's own norms are too careless.

        Raises
        ------
        ParityError
            They differ by more than :data:`SAME_GRAPH` of the range of the logits.
        """
        noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
        given, own = self(noise), self(noise.double())
        error = float((given - own).abs().max() / (given.max() - given.min()).clamp(min=1e-30))
        if not error <= SAME_GRAPH:
            raise ParityError(
                f"the ONNX network, converted to opset {OPSET}, differs from the file by "
                f"{error:.1e} of the range of the logits (at most {SAME_GRAPH:.0e}). Export the "
                f"file with that opset: {_RECIPE}"
            )


def read_onnx(
    path: Path, input_shape: tuple[int, int, int, int], logits_shape: tuple[int, int, int, int]
) -> OnnxNetwork:
    """Read a network for tiles of one size.

    Parameters
    ----------
    path
        The file.
    input_shape
        Channels, depth, height and width of a tile. Extents that the file leaves free are set.
    logits_shape
        Channels, depth, height and width of the logits: the first output of that shape is taken.

    Raises
    ------
    InputError
        The file is no ONNX model, has data elsewhere, operators that are not standard, several
        inputs, an input of another form, or no such output.
    """
    content = _checked(path)
    model = _parsed(content, path)
    model = _without_functions(model, path)
    _check_operators(model, path)
    _fix_input(model, path, input_shape)
    model = _of_opset(model, path)
    try:
        model = _settled(model)
        output = _place_of_logits(model, path, logits_shape)
        model = _only_output(model, output)
        add_function_body(model)
        check_model(model)
    except InputError:
        raise
    except Exception as error:  # the checks of three libraries share no base
        raise InputError(f"{path.name} is not well formed: {_first_line(error)}") from error
    return OnnxNetwork(content, model, output)


def _checked(path: Path) -> bytes:
    """Read the file, unless it is too large or has data elsewhere."""
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise InputError(f"{path.name} has {size} bytes; an ONNX file holds at most 2 GiB")
    content = path.read_bytes()
    reason = reason_to_refuse(content)
    if reason is not None:
        raise InputError(f"{path.name} {reason}; write one file: {_RECIPE}")
    return content


def _parsed(content: bytes, path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_from_string(content)
    except Exception as error:  # of Protocol Buffers
        raise InputError(f"{path.name} is no ONNX model: {_first_line(error)}") from error


def _without_functions(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Write out this project's operators by its own bodies, all but the scan.

    Others' functions could call one another without end.
    """
    for function in model.functions:
        if function.domain != DOMAIN:
            raise InputError(
                f"{path.name} has the function {f'{function.domain}::{function.name}'!r:.80}; "
                f"expected operators alone. Export it so that functions are written out: {_RECIPE}"
            )
    del model.functions[:]
    add_token_functions(model)
    return inline_token_functions(model)


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    for node in _nodes(model.graph):
        ours = (node.domain, node.op_type) == (DOMAIN, OP_TYPE)
        known = node.domain in _STANDARD and is_standard_op(node.op_type)
        if not (ours or known):
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise InputError(
                f"{path.name} has the operator {name!r:.80}; expected operators of the ONNX "
                f"standard, or {DOMAIN}::{OP_TYPE}. Export it so that PyTorch's operators are "
                f"written out: {_RECIPE}"
            )


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """List the nodes of a graph and of the graphs within it."""
    found, waiting = [], [graph]
    while waiting:
        for node in waiting.pop().node:
            found.append(node)
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    return found


def _fix_input(model: onnx.ModelProto, path: Path, expected: tuple[int, int, int, int]) -> None:
    """Set the extents that the one input leaves free."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise InputError(f"{path.name} has the inputs {names or 'none'}; expected one, of tiles")
    kind = inputs[0].type.tensor_type
    dims = list(kind.shape.dim)
    if kind.elem_type != onnx.TensorProto.FLOAT or len(dims) != 5:
        raise InputError(
            f"{path.name} takes {onnx.TensorProto.DataType.Name(kind.elem_type)} of {len(dims)} "
            "axes; expected float32 (batch, channels, depth, height, width)"
        )
    found = tuple(dim.dim_value or extent for dim, extent in zip(dims[1:], expected, strict=True))
    if found != expected or dims[0].dim_value > 1:
        raise InputError(
            f"{path.name} takes tiles of {(dims[0].dim_value or 'any', *found)}; its use states "
            f"{expected}, with a batch that is free or one. Give the plans of its training, or "
            "export it for that size"
        )
    for dim, extent in zip(dims[1:], expected, strict=True):
        dim.dim_value = extent
    del graph.input[:]
    graph.input.append(inputs[0])
    del graph.value_info[:]  # inferred anew
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _of_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    found = next((each.version for each in model.opset_import if each.domain in _STANDARD), 0)
    if found == OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise InputError(
            f"{path.name} has opset {found}, which cannot be converted to {OPSET}: "
            f"{_first_line(error)}. Export it with that opset: {_RECIPE}"
        ) from error


def _settled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Name the input as every export does, and work out what follows from the tile."""
    model = ir.from_proto(proto)
    graph = model.graph
    made = [value for node in graph for value in node.outputs]
    for value in (*graph.initializers.values(), *made):
        if value.name in (INPUT, OUTPUT):
            value.name = f"{value.name}_of_the_file"
    graph.inputs[0].name = INPUT
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "segmaformer", ""
    optimizer.optimize(model)
    settled = ir.to_proto(model)
    strip_metadata(settled)
    if scan_nodes(settled):
        settled.functions.append(shape_of_scan())
    inferred = shape_inference.infer_shapes(settled, data_prop=True)
    del inferred.functions[:]
    return inferred


def _place_of_logits(model: onnx.ModelProto, path: Path, shape: tuple[int, ...]) -> int:
    shapes = []
    for place, output in enumerate(model.graph.output):
        extents = tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim)
        if extents[1:] == shape:
            return place
        shapes.append(extents)
    raise InputError(
        f"{path.name} gives {', '.join(map(str, shapes)) or 'nothing'} (0: not known); expected "
        f"{shape} behind the batch: a channel for each output at the input's size. Check the "
        "number of labels, the patch size, and that it gives logits, not labels"
    )


def _only_output(graph: onnx.ModelProto, place: int) -> onnx.ModelProto:
    model = ir.from_proto(graph)
    output = model.graph.outputs[place]
    del model.graph.outputs[:]
    model.graph.outputs.append(output)
    output.name = OUTPUT
    common.RemoveUnusedNodesPass()(model)
    return ir.to_proto(model)


def _opened(content: bytes) -> Any:
    try:
        return open_network(content, threads=available_processors())
    except BackendError as error:
        raise InputError(str(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
