"""Rewrite to token-major volumes, channels innermost, wherever the CPU's kernels take them so.

Convolutions take (B, C, D, H, W), matrix products and the scan (B, L, C); the traced network
transposes its volumes between them. An op on channels innermost commutes with that transpose P,

    conv(P x) = P conv'(x)

so each such op is written in its token-major form with a transpose on either side, and transposes
that meet their inverse vanish:

* depthwise 3x3x3 and causal convolutions, with the SiLU that follows the latter;
* instance norms with GELU or ReLU, norms of all channels together, sums with an upsampled map, and
  pointwise convolutions, which become matrix products: these four only if the volume is token-major
  anyway.

Exact: only the order of sums inside an op changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.activations import norm_activation, silu_nodes
from segmaformer.export.rewrites.matching import (
    add_initializer,
    attribute_ints,
    bias_or_zeros,
    constant_array,
    is_op,
    is_plain,
    maker_of,
    only_reader,
    only_use,
    shape_of,
)
from segmaformer.export.rewrites.upsampling import VOLUME_RANK, whole_scales
from segmaformer.export.scan_op import DOMAIN


def flow_token_major(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches, in place; return the number of ops it moved."""
    twins = dict[ir.Value, ir.Value]()
    return sum(_TokenMajor(graph, node, twins).moved() for node in list(graph))


class _TokenMajor:
    """One node, and the new nodes that take its place.

    `twins` holds the token-major forms made so far of values that stay.
    """

    def __init__(self, graph: ir.Graph, node: ir.Node, twins: dict[ir.Value, ir.Value]):
        self._graph = graph
        self._node = node
        self._twins = twins

    def moved(self) -> bool:
        """Rewrite the node if possible; tell if it was."""
        node = self._node
        if node.graph is not self._graph:
            return False  # removed with an earlier one
        if any(_rank(value) is None for value in node.outputs):
            return False
        if is_op(node, "Transpose"):
            return self._cancel_transpose()
        attempts = {
            "Conv": (self._depthwise, self._causal, self._pointwise),
            "InstanceNormalization": (self._instance_norm, self._norm_of_all),
            "Add": (self._upsample_add,),
        }
        return any(attempt() for attempt in attempts.get(node.op_type, ()) if not node.domain)

    # ---- layout

    def _free(self, value: ir.Value | None) -> ir.Value | None:
        """Return `value` token-major if that takes no transpose."""
        maker = value.producer() if value is not None else None
        if value is None or maker is None or maker.domain:
            return None
        if maker.op_type == "Transpose" and attribute_ints(maker, "perm") == _perm(value, -1):
            return maker.inputs[0]
        if value in self._twins:
            return self._twins[value]
        twin = None
        if maker.op_type == "Reshape":
            twin = self._free_behind_reshape(value, maker)
        elif maker.op_type == "MatMul" and only_use(value):
            twin = self._free_behind_product(maker)
        if twin is not None:
            self._twins[value] = twin
        return twin

    def _free_behind_reshape(self, value: ir.Value, reshape: ir.Node) -> ir.Value | None:
        before, after = shape_of(reshape.inputs[0]), shape_of(value)
        if before is None or after is None or min(len(before), len(after)) < 3:
            return None
        spatial = after[2:]
        if before[1] != after[1] or any(extent is None for extent in (after[1], *spatial)):
            return None
        if math.prod(e or 0 for e in before[2:]) != math.prod(e or 0 for e in spatial):
            return None
        tokens = self._free(reshape.inputs[0])
        if tokens is None:
            return None
        extents = np.array([-1, *spatial, after[1]], np.int64)
        target = add_initializer(self._graph, f"{value.name}_tokens_shape", extents)
        return self._add("Reshape", [tokens, target], f"{value.name}_tokens", _to_tokens(value))

    def _free_behind_product(self, product: ir.Node) -> ir.Value | None:
        """Return W x' as (x W')', if x' is a transpose already."""
        weight = constant_array(product.inputs[0])
        tokens = self._free(product.inputs[1])
        if weight is None or weight.ndim != 2 or tokens is None:
            return None
        result = product.outputs[0]
        turned = add_initializer(self._graph, f"{result.name}_weight", weight.T)
        return self._add("MatMul", [tokens, turned], f"{result.name}_tokens", _to_tokens(result))

    def _tokens(self, value: ir.Value) -> ir.Value:
        """Return `value` token-major, by a transpose if necessary."""
        free = self._free(value)
        if free is not None:
            return free
        perm = _perm(value, +1)
        twin = self._add(
            "Transpose", [value], f"{value.name}_tokens", _to_tokens(value), {"perm": perm}
        )
        self._twins[value] = twin
        return twin

    def _cancel_transpose(self) -> bool:
        output = self._node.outputs[0]
        source = self._node.inputs[0]
        if source is None or source.shape is None:
            return False
        if attribute_ints(self._node, "perm") != _perm(source, +1):
            return False
        tokens = self._free(source)
        if tokens is None or output.is_graph_output():
            return False
        ir.convenience.replace_all_uses_with(output, tokens)
        self._graph.remove(self._node, safe=True)
        return True

    # ---- operators

    def _depthwise(self) -> bool:
        node = self._node
        source, weight = node.inputs[0], constant_array(node.inputs[1])
        if source is None or weight is None or weight.shape[1:] != (1, 3, 3, 3):
            return False
        if attribute_ints(node, "pads") != [1] * 6 or not _each_channel_alone(node, len(weight)):
            return False
        inputs = [
            self._tokens(source),
            node.inputs[1],
            bias_or_zeros(self._graph, node, len(weight)),
        ]
        return self._finish(
            token_ops.DEPTHWISE_CONV, inputs, {"group": len(weight)}, node.outputs[0], [node]
        )

    def _causal(self) -> bool:
        node = self._node
        source, weight = node.inputs[0], constant_array(node.inputs[1])
        if source is None or weight is None or weight.ndim != 3 or weight.shape[1] != 1:
            return False
        pads = attribute_ints(node, "pads") or [0, 0]
        if sum(pads) != weight.shape[2] - 1 or not _each_channel_alone(node, len(weight)):
            return False
        gated = silu_nodes(node.outputs[0])
        if gated is None:
            return False
        inputs = [
            self._tokens(source),
            node.inputs[1],
            bias_or_zeros(self._graph, node, len(weight)),
        ]
        attributes = {"group": len(weight), "pads": pads}
        return self._finish(
            token_ops.CAUSAL_CONV_SILU, inputs, attributes, gated[-1].outputs[0], [node, *gated]
        )

    def _pointwise(self) -> bool:
        node = self._node
        kernel = node.inputs[1]
        weight = constant_array(kernel)
        if kernel is None or weight is None or math.prod(weight.shape[2:]) != 1:
            return False
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        tokens = self._free(node.inputs[0]) if is_plain(node) else None
        if tokens is None:
            return False
        output = node.outputs[0]
        matrix = weight.reshape(weight.shape[:2]).T
        turned = add_initializer(self._graph, f"{kernel.name}_matrix", matrix)
        like = _to_tokens(output)
        result = self._add("MatMul", [tokens, turned], f"{output.name}_product", like)
        if bias is not None:
            result = self._add("Add", [result, bias], f"{output.name}_biased", like)
        return self._replace(output, result, [node])

    def _instance_norm(self) -> bool:
        node = self._node
        found = norm_activation(node.outputs[0])
        if found is None or _rank(node.inputs[0]) != VOLUME_RANK:
            return False
        tokens = self._free(node.inputs[0])
        if tokens is None:
            return False
        name, activation = found
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        inputs = [tokens, node.inputs[1], node.inputs[2]]
        output = activation[-1].outputs[0]
        return self._finish(name, inputs, {"epsilon": epsilon}, output, [node, *activation])

    def _norm_of_all(self) -> bool:
        """Move a group norm of one group, which the tracer writes as a norm between reshapes."""
        node = self._node
        flat, after = node.inputs[0], only_reader(node.outputs[0])
        before = maker_of("Reshape", flat)
        if flat is None or before is None or after is None or not is_op(after, "Reshape"):
            return False
        source, output = before.inputs[0], after.outputs[0]
        shape = shape_of(source)
        if source is None or shape is None or shape != shape_of(output) or None in shape[1:]:
            return False
        tokens = self._free(source) if (shape_of(flat) or (0, 0))[1] == 1 else None
        if tokens is None:
            return False
        name, like = output.name, _to_tokens(source)
        extents = np.array([-1, *shape[2:], shape[1]], np.int64)
        target = add_initializer(self._graph, f"{name}_tokens_shape", extents)
        value = self._add("Reshape", [tokens, before.inputs[1]], f"{name}_flat", flat.shape)
        inputs = [value, *node.inputs[1:]]
        epsilon = {"epsilon": node.attributes.get_float("epsilon", 1e-5)}
        value = self._add(node.op_type, inputs, f"{name}_flat_normed", flat.shape, epsilon)
        value = self._add("Reshape", [value, target], f"{name}_normed", like)
        replaced = [node, after]
        for reader, constant in _channel_steps(output):
            output = reader.outputs[0]
            factor = add_initializer(self._graph, f"{output.name}_by_channel", constant)
            value = self._add(reader.op_type, [value, factor], f"{output.name}_tokens", like)
            replaced.append(reader)
        return self._replace(output, value, replaced)

    def _upsample_add(self) -> bool:
        node = self._node
        for upsampled, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
            resize = upsampled.producer() if upsampled is not None else None
            scales = whole_scales(resize)
            if resize is None or scales is None or upsampled is None or not only_use(upsampled):
                continue
            if shape_of(other) != shape_of(upsampled):
                continue
            low, base = self._free(resize.inputs[0]), self._free(other)
            if low is not None and base is not None:
                return self._finish(
                    token_ops.UPSAMPLE_ADD,
                    [low, base],
                    {"scales": scales},
                    node.outputs[0],
                    [resize, node],
                )
        return False

    # ---- building

    def _finish(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, object],
        output: ir.Value,
        replaced: Sequence[ir.Node],
    ) -> bool:
        name = f"{output.name}_token_major"
        result = self._add(op_type, inputs, name, _to_tokens(output), attributes, domain=DOMAIN)
        return self._replace(output, result, replaced)

    def _replace(self, output: ir.Value, result: ir.Value, replaced: Sequence[ir.Node]) -> bool:
        """Give `output`'s readers the transpose of `result`, which most of them cancel."""
        back = self._add(
            "Transpose",
            [result],
            f"{output.name}_channel_major",
            output.shape,
            {"perm": _perm(output, -1)},
        )
        name, is_result = output.name, output.is_graph_output()
        ir.convenience.replace_all_uses_with(output, back, replace_graph_outputs=True)
        for node in reversed(replaced):
            self._graph.remove(node, safe=True)
        if is_result:
            back.name = name
        return True

    def _add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        shape: ir.Shape | None,
        attributes: Mapping[str, object] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, domain=domain, name=name)  # type: ignore[arg-type]
        output = node.outputs[0]
        output.name, output.shape = name, shape
        output.type = ir.TensorType(ir.DataType.FLOAT)
        self._graph.insert_before(self._node, node)
        return output


def _rank(value: ir.Value | None) -> int | None:
    shape = shape_of(value)
    return None if shape is None else len(shape)


def _perm(value: ir.Value, direction: int) -> list[int] | None:
    """Return the axes that turn channel-major into token-major (+1) or back (-1)."""
    rank = _rank(value)
    if rank is None or rank < 3:
        return None
    return [0, *range(2, rank), 1] if direction > 0 else [0, rank - 1, *range(1, rank - 1)]


def _to_tokens(value: ir.Value) -> ir.Shape | None:
    if value.shape is None:
        return None
    batch, channels, *spatial = value.shape
    return ir.Shape([batch, *spatial, channels])


def _channel_steps(value: ir.Value) -> Iterator[tuple[ir.Node, np.ndarray]]:
    """Yield the nodes that scale and shift each channel of (B, C, ...), with their constants."""
    for op_type in ("Mul", "Add"):
        reader, shape = only_reader(value), shape_of(value)
        if reader is None or shape is None or not is_op(reader, op_type):
            return
        constant = next((c for c in map(constant_array, reader.inputs) if c is not None), None)
        if constant is None or constant.shape[-len(shape) + 1 :] != (
            shape[1],
            *[1] * (len(shape) - 2),
        ):
            return
        yield reader, constant.reshape(-1)
        value = reader.outputs[0]


def _each_channel_alone(conv: ir.Node, channels: int) -> bool:
    """Tell if a convolution is depthwise, without stride or dilation."""
    steps = [*(attribute_ints(conv, "strides") or []), *(attribute_ints(conv, "dilations") or [])]
    return set(steps) <= {1} and conv.attributes.get_int("group", 1) == channels
