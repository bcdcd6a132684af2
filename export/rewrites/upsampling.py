"""Rewrite of linear upsampling by whole factors to the CPU's kernel.

ONNX Runtime's Resize takes many times as long on a volume; see ``benchmarks/token_ops.py``. Exact
up to rounding: the same weights, in another order.
"""

from __future__ import annotations

import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import is_op, shape_of, take_place
from segmaformer.export.scan_op import DOMAIN

VOLUME_RANK = 5
CENTRES = "half_pixel"


def upsample_natively(graph: ir.Graph) -> int:
    """Use the CPU's kernel for the remaining linear upsampling, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    scales = whole_scales(node)
    if scales is None:
        return False
    replacement = ir.node(
        token_ops.UPSAMPLE, [node.inputs[0]], {"scales": scales}, domain=DOMAIN, name=node.name
    )
    take_place(graph, node, replacement)
    return True


def whole_scales(node: ir.Node | None) -> list[float] | None:
    """Return depth, height and width factors of a linear Resize, if whole and at least 1."""
    if node is None or not _is_linear(node):
        return None
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if before is None or after is None or len(before) != VOLUME_RANK or before[1] != after[1]:
        return None
    factors = [
        (new // old if old and new and new % old == 0 else None)
        for old, new in zip(before[2:], after[2:], strict=True)
    ]
    return [float(f) for f in factors if f is not None] if all(factors) else None


def _is_linear(node: ir.Node) -> bool:
    """Tell if a node is a Resize that only interpolates between the centres of voxels."""
    if not is_op(node, "Resize"):
        return False
    given = node.attributes
    kind = given.get_string("mode"), given.get_string("coordinate_transformation_mode", CENTRES)
    variations = given.get_int("antialias", 0), given.get_int("exclude_outside", 0)
    return kind == ("linear", CENTRES) and not any(variations)
