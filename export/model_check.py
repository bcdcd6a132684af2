"""ONNX's checker, for models whose weights should not be copied."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common


def check_model(model: onnx.ModelProto) -> None:
    """Check a model as :func:`onnx.checker.check_model` does, large weights by their shapes alone.

    That function takes two copies of the whole model.

    Raises
    ------
    onnx.checker.ValidationError
        The model is not well formed.
    """
    common.CheckerPass()(ir.from_proto(model))
