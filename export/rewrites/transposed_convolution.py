"""Rewrite of transposed convolutions whose kernel is their stride to the CPU's kernel.

Each voxel becomes a block of outputs that no other voxel adds to, so that they are a product of
voxels with weights, stored side by side. ONNX Runtime multiplies into memory as large as the result
and then adds it up there, on one thread.

Left alone are volumes of few voxels, since the kernel packs the weights in every run: 320 to 320
channels over 6x6x6 voxels would take 1.2 times ONNX Runtime's processor time on one AVX-512 core,
over 4x4x4 1.8. 320 to 256 over 6x12x12 take 0.99 of it, 256 to 128 over 12x24x24 0.89, 128 to 64
over 24x48x48 0.85, 64 to 32 over 48x96x96 0.55.

Exact but for rounding: the same products, summed 64 channels at a time.
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

_VOLUME_RANK = 5
_LEAST_VOXELS = 512
_TAPS_ALONG_WIDTH = (1, 2)


def enlarge_natively(graph: ir.Graph) -> int:
    """Apply the rewrite wherever it matches and pays, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, conv: ir.Node) -> bool:
    weight = constant_array(conv.inputs[1]) if is_op(conv, "ConvTranspose") else None
    if weight is None or weight.dtype != np.float32:
        return False
    if not _is_block_of_each_voxel(conv, weight.shape) or not _pays(conv):
        return False
    replacement = ir.node(
        token_ops.CONV_TRANSPOSE,
        [*conv.inputs[:2], bias_or_zeros(graph, conv, weight.shape[1])],
        {"strides": list(weight.shape[2:])},
        domain=DOMAIN,
        name=conv.name,
    )
    take_place(graph, conv, replacement)
    return True


def _is_block_of_each_voxel(conv: ir.Node, weight: tuple[int, ...]) -> bool:
    """Tell if the kernel is the stride, along all of three axes, and nothing is cut or added."""
    if len(weight) != _VOLUME_RANK or weight[-1] not in _TAPS_ALONG_WIDTH:
        return False
    given = conv.attributes
    neutral = {"dilations": 1, "pads": 0, "output_padding": 0}
    plain = all(set(attribute_ints(conv, name) or [n]) == {n} for name, n in neutral.items())
    computed = "output_shape" in given or given.get_string("auto_pad", "NOTSET") != "NOTSET"
    strides = attribute_ints(conv, "strides") or [1, 1, 1]
    dense = given.get_int("group", 1) == 1
    return plain and dense and not computed and strides == list(weight[2:])


def _pays(conv: ir.Node) -> bool:
    """Tell if the kernel is the faster one: enough voxels that are known to be."""
    extents = [extent for extent in (shape_of(conv.inputs[0]) or ())[2:] if extent is not None]
    return len(extents) == _VOLUME_RANK - 2 and math.prod(extents) >= _LEAST_VOXELS
