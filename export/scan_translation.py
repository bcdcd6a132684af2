"""Translation of the scan for PyTorch's exporter, and the op's ONNX schema."""

from __future__ import annotations

from typing import Any

import torch
from onnx.defs import OpSchema
from onnxscript import values

import segmaformer.ops  # noqa: F401  (registers segmaformer::selective_scan with PyTorch)
from segmaformer.export.scan_op import (
    DOMAIN,
    FLOAT32_INPUTS,
    INPUTS,
    OP_TYPE,
    OPTIONAL_INPUTS,
    VERSION,
)


def scan_schema() -> OpSchema:
    """Return types and shapes of the op, version 1 of domain ``segmaformer``."""
    option = OpSchema.FormalParameterOption
    return OpSchema(
        OP_TYPE,
        DOMAIN,
        VERSION,
        doc="Selective scan of Mamba-1, token-major, float32 state.",
        inputs=[
            OpSchema.FormalParameter(
                name,
                "tensor(float)" if name in FLOAT32_INPUTS else "T",
                param_option=option.Optional if name in OPTIONAL_INPUTS else option.Single,
            )
            for name in INPUTS
        ],
        outputs=[OpSchema.FormalParameter("y", "T")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "Element type.")
        ],
        attributes=[
            OpSchema.Attribute("delta_softplus", OpSchema.AttrType.INT, required=False),
            OpSchema.Attribute("reverse", OpSchema.AttrType.INT, required=False),
        ],
    )


def translation_table() -> dict[Any, Any]:
    """Return the table that makes ``torch.onnx.export`` emit the op."""
    op = values.Op(values.Opset(DOMAIN, VERSION), OP_TYPE, scan_schema())

    def translate(*inputs: Any) -> Any:
        *tensors, delta_softplus, reverse = inputs
        return op(*tensors, delta_softplus=int(delta_softplus), reverse=int(reverse))

    return {torch.ops.segmaformer.selective_scan.default: translate}
