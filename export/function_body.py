"""Model-local ONNX function for ``SelectiveScan``, so that a file runs without our library.

ONNX Runtime uses the registered kernel if there is one and inlines this body otherwise. A function
body cannot ask which optional inputs are present, so it is written for one signature: the inputs
and attributes that a model's nodes share. Only the direction may differ: the body of a model that
scans both ways holds both loops and chooses by the node's attribute, which runtimes resolve when
they inline it. State and arithmetic are float32 for every element type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from segmaformer.export.scan_op import DOMAIN, INPUTS, OP_TYPE, OPSET, scan_nodes


@dataclass(frozen=True)
class ScanSignature:
    """Optional inputs and attributes of a node.

    Attributes
    ----------
    reverse
        None for a body that serves both directions.
    """

    has_d: bool = True
    has_z: bool = True
    has_bias: bool = True
    delta_softplus: bool = True
    reverse: bool | None = False


def node_signature(node: onnx.NodeProto) -> ScanSignature:
    """Return the signature of one SelectiveScan node."""
    given = dict(zip(INPUTS, node.input, strict=False))
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return ScanSignature(
        has_d=bool(given.get("D")),
        has_z=bool(given.get("z")),
        has_bias=bool(given.get("delta_bias")),
        delta_softplus=bool(attributes.get("delta_softplus", 0)),
        reverse=bool(attributes.get("reverse", 0)),
    )


def add_function_body(model: onnx.ModelProto) -> None:
    """Add the function body for a model's SelectiveScan nodes, in place.

    Raises
    ------
    ValueError
        The nodes differ in more than direction, so one body cannot serve them all.
    """
    signatures = {node_signature(node) for node in scan_nodes(model)}
    if len({signature.reverse for signature in signatures}) > 1:
        signatures = {dataclasses.replace(s, reverse=None) for s in signatures}
    if len(signatures) > 1:
        raise ValueError(f"SelectiveScan nodes with different signatures: {signatures}")
    del model.functions[:]
    model.functions.extend(selective_scan_function(signature) for signature in signatures)


def selective_scan_function(signature: ScanSignature) -> onnx.FunctionProto:
    """Write the op as a loop over tokens (ONNX ``Scan``), for one signature."""
    recurrence = [*_initial_state_nodes(), *_loop_nodes(signature.reverse)]
    return function_around(recurrence, signature)


def function_around(
    recurrence: Sequence[onnx.NodeProto], signature: ScanSignature, *, name: str = OP_TYPE
) -> onnx.FunctionProto:
    """Write the op around a given recurrence: step, skip and gate, float32 inside.

    Parameters
    ----------
    recurrence
        Nodes that compute ``scanned`` (B, L, D), the sum over states of C h, from ``step``
        and ``drive`` (B, L, D), ``b32`` and ``c32`` (B, L, N), and the op's own inputs.
    signature
        Signature that the body serves.
    name
        Name of the function, in the op's domain.
    """
    nodes = [
        *_cast_to_float32(signature),
        *_step_nodes(signature),
        helper.make_node("Mul", ["step", "u32"], ["drive"]),
        *recurrence,
        *_output_nodes(signature),
    ]
    return helper.make_function(
        DOMAIN,
        name,
        list(INPUTS),
        ["y"],
        nodes,
        [helper.make_opsetid("", OPSET)],
        attribute_protos=[helper.make_attribute(n, 0) for n in ("delta_softplus", "reverse")],
    )


def _cast_to_float32(signature: ScanSignature) -> list[onnx.NodeProto]:
    names = [("u", "u32"), ("delta", "delta32"), ("B", "b32"), ("C", "c32")]
    if signature.has_z:
        names.append(("z", "z32"))
    return [helper.make_node("Cast", [a], [b], to=TensorProto.FLOAT) for a, b in names]


def _step_nodes(signature: ScanSignature) -> list[onnx.NodeProto]:
    """Return nodes for bias and softplus: ``max(x, 0) + log1p(exp(-|x|))``.

    log1p is 2 atanh(t / (2 + t)), as in the native kernel: log(1 + t) would lose every digit of a
    small step. Above 20, softplus equals the identity in float32 without a special case.
    """
    nodes = []
    raw = "delta32"
    if signature.has_bias:
        nodes.append(helper.make_node("Add", ["delta32", "delta_bias"], ["raw"]))
        raw = "raw"
    if not signature.delta_softplus:
        return [*nodes, helper.make_node("Identity", [raw], ["step"])]
    return [
        *nodes,
        helper.make_node("Abs", [raw], ["magnitude"]),
        helper.make_node("Neg", ["magnitude"], ["negative"]),
        helper.make_node("Exp", ["negative"], ["t"]),
        _constant("two", 2.0),
        helper.make_node("Add", ["t", "two"], ["t_plus_two"]),
        helper.make_node("Div", ["t", "t_plus_two"], ["s"]),
        helper.make_node("Atanh", ["s"], ["half_log"]),
        helper.make_node("Mul", ["half_log", "two"], ["log1p"]),
        helper.make_node("Relu", [raw], ["positive"]),
        helper.make_node("Add", ["positive", "log1p"], ["step"]),
    ]


def _initial_state_nodes() -> list[onnx.NodeProto]:
    """Return nodes for zeros of shape (B, D, N)."""
    return [
        helper.make_node("Shape", ["u"], ["batch"], start=0, end=1),
        helper.make_node("Shape", ["A"], ["channels_states"]),
        helper.make_node("Concat", ["batch", "channels_states"], ["state_shape"], axis=0),
        helper.make_node("ConstantOfShape", ["state_shape"], ["state0"]),
    ]


def _loop_nodes(reverse: bool | None) -> list[onnx.NodeProto]:
    """Return nodes for the loop over tokens in one direction, or in that of the attribute."""
    if reverse is not None:
        return [_loop(reverse)]
    direction = helper.make_node("Constant", [], ["direction"])
    direction.attribute.add(name="value_int", ref_attr_name="reverse", type=onnx.AttributeProto.INT)
    scanned = [helper.make_tensor_value_info("scanned", TensorProto.FLOAT, None)]
    return [
        direction,
        helper.make_node("Cast", ["direction"], ["backward"], to=TensorProto.BOOL),
        helper.make_node(
            "If",
            ["backward"],
            ["scanned"],
            then_branch=helper.make_graph([_loop(True)], "from_the_end", [], scanned),
            else_branch=helper.make_graph([_loop(False)], "from_the_start", [], scanned),
        ),
    ]


def _loop(reverse: bool) -> onnx.NodeProto:
    return helper.make_node(
        "Scan",
        ["state0", "step", "drive", "b32", "c32"],
        ["state_end", "scanned"],
        num_scan_inputs=4,
        scan_input_axes=[1, 1, 1, 1],
        scan_output_axes=[1],
        scan_input_directions=[int(reverse)] * 4,
        scan_output_directions=[int(reverse)],
        body=_token_step(),
    )


def _token_step() -> onnx.GraphProto:
    """Return the graph of one token.

    Inputs are the state (B, D, N), step and drive (B, D), and B and C (B, N); outputs are the state
    and y (B, D).
    """
    last, middle = "last_axis", "middle_axis"
    nodes = [
        helper.make_node("Constant", [], [last], value_ints=[-1]),
        helper.make_node("Constant", [], [middle], value_ints=[1]),
        helper.make_node("Unsqueeze", ["step_t", last], ["step_column"]),
        helper.make_node("Mul", ["step_column", "A"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["decay"]),
        helper.make_node("Mul", ["decay", "state"], ["decayed"]),
        helper.make_node("Unsqueeze", ["drive_t", last], ["drive_column"]),
        helper.make_node("Unsqueeze", ["b_t", middle], ["b_row"]),
        helper.make_node("Mul", ["drive_column", "b_row"], ["driven"]),
        helper.make_node("Add", ["decayed", "driven"], ["state_next"]),
        helper.make_node("Unsqueeze", ["c_t", last], ["c_column"]),
        helper.make_node("MatMul", ["state_next", "c_column"], ["y_column"]),
        helper.make_node("Squeeze", ["y_column", last], ["y_t"]),
    ]

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    inputs = [value(name) for name in ("state", "step_t", "drive_t", "b_t", "c_t")]
    return helper.make_graph(nodes, "token", inputs, [value("state_next"), value("y_t")])


def _output_nodes(signature: ScanSignature) -> list[onnx.NodeProto]:
    """Return nodes for skip, gate, and the cast back to the type of u."""
    nodes, y = [], "scanned"
    if signature.has_d:
        nodes += [
            helper.make_node("Mul", ["u32", "D"], ["skip"]),
            helper.make_node("Add", [y, "skip"], ["skipped"]),
        ]
        y = "skipped"
    if signature.has_z:
        nodes += [
            helper.make_node("Sigmoid", ["z32"], ["sigmoid"]),
            helper.make_node("Mul", ["z32", "sigmoid"], ["silu"]),
            helper.make_node("Mul", [y, "silu"], ["gated"]),
        ]
        y = "gated"
    return [*nodes, helper.make_node("CastLike", [y, "u"], ["y"])]


def _constant(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_float=value)


def strip_function_body(model: onnx.ModelProto) -> None:
    """Remove the body, in place: TensorRT before 10.7 would prefer it to the plugin."""
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
