"""Rewrite of dense convolutions over three neighbours along each axis to the CPU's kernel.

The kernel takes 144 products where a direct convolution takes 864, or 64 for 216 over few tiles;
with one plane of taps 36 for 144; at a stride of two 125 for 216. That of a single tap
multiplies as directly, but packs no inputs for the whole volume. ONNX Runtime multiplies directly,
and copies every input out 27 times for it.

A concatenation that such convolutions alone read goes into them: the kernels take their inputs from
both parts, so that the largest arrays of a U-Net, its skip connections beside what comes from
below, are neither copied nor held twice.

Left alone are convolutions of few channels, whose transforms cost more than the products saved,
and those over few tiles, since the kernel packs the weights in every run. Measured on one AVX2 core
against ONNX Runtime: 32 to 32 channels 0.41 of its time, 8 to 8 0.79, 4 to 32 0.89, 1 to 32 3.6;
320 to 320 channels over 6x12x12 voxels 0.57, over 8x8x8 0.7, over 6x6x6 1.2; at a stride of two
32 to 64 channels 0.53, 256 to 320 over 12x24x24 voxels 0.84.

Exact but for rounding, whose error is about that of a direct sum.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import (
    attribute_ints,
    bias_or_zeros,
    constant_array,
    is_op,
    shape_of,
    take_place,
)
from segmaformer.export.scan_op import DOMAIN

_LEAST_CHANNELS = 8
_LEAST_TILES = 32
_TILE = 2
_LEAST_VOXELS = 4096
_STRIDES = {
    (3, 3, 3): ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    (1, 3, 3): ((1, 1, 1), (1, 2, 2)),
    (1, 1, 1): ((1, 1, 1),),
}


def convolve_natively(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches and pays, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, conv: ir.Node) -> bool:
    weight = _native_weight(conv)
    if weight is None:
        return False
    concat = _own_concatenation(conv)
    x, *rest = conv.inputs[:1] if concat is None else concat.inputs
    replacement = ir.node(
        token_ops.CONCAT_CONV if rest else token_ops.CONV,
        [x, conv.inputs[1], bias_or_zeros(graph, conv, len(weight)), *rest],
        {"strides": _strides(conv), "pads": [n // 2 for n in weight.shape[2:]] * 2},
        domain=DOMAIN,
        name=conv.name,
    )
    take_place(graph, conv, replacement)
    if concat is not None and not concat.outputs[0].uses():
        graph.remove(concat, safe=True)
    return True


def _own_concatenation(conv: ir.Node) -> ir.Node | None:
    """Return the concatenation of two volumes' channels that such convolutions alone read."""
    source = conv.inputs[0]
    concat = None if source is None else source.producer()
    if source is None or concat is None or not is_op(concat, "Concat"):
        return None
    joins_two = len(concat.inputs) == 2 and concat.attributes.get_int("axis") == 1
    native = all(_native_weight(use.node) is not None for use in source.uses())
    return concat if joins_two and native and not source.is_graph_output() else None


def _native_weight(conv: ir.Node) -> np.ndarray | None:
    """Return the weight of a convolution that the kernels take, and faster."""
    weight = _dense_weight(conv)
    extents = (shape_of(conv.outputs[0]) or ())[2:]
    return weight if weight is not None and _pays(weight, extents) else None


def _dense_weight(conv: ir.Node) -> np.ndarray | None:
    """Return the constant of a convolution without groups, whose pads are half of its kernel."""
    if not is_op(conv, "Conv") or conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    weight = constant_array(conv.inputs[1])
    if weight is None or weight.dtype != np.float32 or weight.shape[2:] not in _STRIDES:
        return None
    same = [extent // 2 for extent in weight.shape[2:]]
    steps = set(attribute_ints(conv, "dilations") or [1])
    dense = steps == {1} and conv.attributes.get_int("group", 1) == 1
    if not dense or (attribute_ints(conv, "pads") or [0] * 6) != same * 2:
        return None
    return weight if tuple(_strides(conv)) in _STRIDES[weight.shape[2:]] else None


def _strides(conv: ir.Node) -> list[int]:
    return list(attribute_ints(conv, "strides") or [1, 1, 1])


def _pays(weight: np.ndarray, extents: tuple[int | None, ...]) -> bool:
    """Tell if the kernel is the faster one: enough channels, and tiles that are known to be."""
    tiles = [
        math.ceil(extent / _TILE) if taps > 1 else extent
        for extent, taps in zip(extents, weight.shape[2:], strict=True)
        if extent is not None
    ]
    least = _LEAST_VOXELS if weight[0, 0].size == 1 else _LEAST_TILES
    known = len(tiles) == weight.ndim - 2
    return known and weight.shape[1] >= _LEAST_CHANNELS and math.prod(tiles) >= least
