"""Rewrite of linear and nearest upsampling by whole factors to the CPU's kernels.

ONNX Runtime's Resize takes many times as long on a volume; see ``benchmarks/token_ops.py``. Exact:
the same voxels, or the same weights in another order.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from segmaformer.export import token_ops
from segmaformer.export.rewrites.matching import is_op, shape_of, take_place
from segmaformer.export.scan_op import DOMAIN

VOLUME_RANK = 5
_DEFAULTS = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_floor",
}
"""Defaults of the attributes of a Resize."""


def upsample_natively(graph: ir.Graph) -> int:
    """Use the CPU's kernels for the remaining upsampling, in place; return how often."""
    return sum(_replace(graph, node) for node in list(graph))


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    op, how = token_ops.UPSAMPLE, token_ops.LINEAR
    if is_op(node, "Resize") and node.attributes.get_string("mode", "nearest") == "nearest":
        op, how = token_ops.UPSAMPLE_NEAREST, token_ops.NEAREST
    scales = whole_scales(node, how)
    if scales is None:
        return False
    inputs = [node.inputs[0]]
    replacement = ir.node(op, inputs, {"scales": scales}, domain=DOMAIN, name=node.name)
    take_place(graph, node, replacement)
    return True


def whole_scales(
    node: ir.Node | None, how: Mapping[str, str] = token_ops.LINEAR
) -> list[float] | None:
    """Return depth, height and width factors of such a Resize, if whole and at least 1."""
    if node is None or not _resizes(node, how):
        return None
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if before is None or after is None or len(before) != VOLUME_RANK or before[1] != after[1]:
        return None
    factors = [
        (new // old if old and new and new % old == 0 else None)
        for old, new in zip(before[2:], after[2:], strict=True)
    ]
    return [float(f) for f in factors if f is not None] if all(factors) else None


def _resizes(node: ir.Node, how: Mapping[str, str]) -> bool:
    """Tell if a node is a Resize with these attributes and no others that change its result."""
    if not is_op(node, "Resize"):
        return False
    given = node.attributes
    variations = given.get_int("antialias", 0), given.get_int("exclude_outside", 0)
    same = all(given.get_string(name, _DEFAULTS[name]) == value for name, value in how.items())
    return same and not any(variations)
