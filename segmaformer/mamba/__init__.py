"""Mamba layers under the names of ``mamba_ssm``, on any machine that has PyTorch."""

from segmaformer.mamba.functional import (
    bimamba_inner_fn,
    causal_conv1d_fn,
    mamba_inner_fn,
    mamba_inner_fn_no_out_proj,
    selective_scan_fn,
)
from segmaformer.mamba.mamba1 import Mamba
from segmaformer.mamba.mamba2 import Mamba2, Mamba2Simple, RMSNormGated
from segmaformer.mamba.stand_in import convert, stand_in

__all__ = [
    "Mamba",
    "Mamba2",
    "Mamba2Simple",
    "RMSNormGated",
    "bimamba_inner_fn",
    "causal_conv1d_fn",
    "convert",
    "mamba_inner_fn",
    "mamba_inner_fn_no_out_proj",
    "selective_scan_fn",
    "stand_in",
]
