"""Rewrite of patch embeddings to the CPU's kernel, which writes tokens directly.

A strided convolution P conv(x) whose result is transposed to tokens, channels innermost, becomes
one PatchEmbed: conv(x) = P' PatchEmbed(x), and P' meets its inverse in
:mod:`segmaformer.export.rewrites.token_major`. Runtimes for CPUs copy the patches out before they
multiply, each input once for every output that reads it, and transpose the result afterwards; the
kernel does neither.

It computes neighbouring outputs of a row together, 16 in the widest vectors, so shorter rows would
waste lanes. SegMaFormer's first embedding (rows of 32) took 0.7 times as long as in ONNX Runtime
on two AVX-512 cores, the second (rows of 16) 0.8 times and the third (rows of 8) 1.9 times;
embeddings with rows shorter than 16 are left alone.

Exact: only the order of sums inside a convolution changes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import (
    attribute_ints,
    bias_or_zeros,
    constant_array,
    is_op,
    only_reader,
    shape_of,
)
from segmaformer.export.scan_op import DOMAIN

_SHORTEST_ROW = 16


def embed_patches_natively(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches and pays, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, conv: ir.Node) -> bool:
    output = conv.outputs[0]
    shape = output.shape
    weight = _patch_weight(conv)
    if weight is None or shape is None or not _becomes_tokens(output):
        return False
    width = shape[4]
    if not isinstance(width, int) or width < _SHORTEST_ROW:
        return False
    attributes = {
        "strides": attribute_ints(conv, "strides"),
        "pads": attribute_ints(conv, "pads") or [0] * 6,
    }
    embed = ir.node(
        token_ops.PATCH_EMBED,
        [conv.inputs[0], conv.inputs[1], bias_or_zeros(graph, conv, len(weight))],
        attributes,
        domain=DOMAIN,
        name=f"{output.name}_patch_embed",
    )
    tokens = embed.outputs[0]
    tokens.name, tokens.type = f"{output.name}_tokens", output.type
    tokens.shape = ir.Shape([shape[axis] for axis in token_ops.TO_TOKENS])
    back = ir.node(
        "Transpose", [tokens], {"perm": token_ops.TO_CHANNELS}, name=f"{output.name}_back"
    )
    volume = back.outputs[0]
    volume.name, volume.type, volume.shape = f"{output.name}_volume", output.type, shape
    graph.insert_before(conv, [embed, back])
    ir.convenience.replace_all_uses_with(output, volume)
    graph.remove(conv, safe=True)
    return True


def _patch_weight(conv: ir.Node) -> np.ndarray | None:
    """Return the constant of a volume's strided convolution without dilation and groups."""
    if not is_op(conv, "Conv") or conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    weight, strides = constant_array(conv.inputs[1]), attribute_ints(conv, "strides")
    if weight is None or weight.ndim != 5 or weight.dtype != np.float32:
        return None
    dilations = attribute_ints(conv, "dilations") or [1]
    plain = set(dilations) == {1} and conv.attributes.get_int("group", 1) == 1
    return weight if plain and strides is not None and min(strides) >= 2 else None


def _becomes_tokens(volume: ir.Value) -> bool:
    """Tell if the only reader is a transpose to channels last, perhaps after flattening."""
    reader = only_reader(volume)
    if reader is not None and is_op(reader, "Reshape"):
        flat = reader.outputs[0]
        before, after = shape_of(volume), shape_of(flat)
        if before is None or after is None or len(after) != 3 or before[1] != after[1]:
            return False
        reader = only_reader(flat)
        return reader is not None and _turns(reader, [0, 2, 1])
    return reader is not None and _turns(reader, token_ops.TO_TOKENS)


def _turns(node: ir.Node, perm: list[int]) -> bool:
    return is_op(node, "Transpose") and attribute_ints(node, "perm") == perm
