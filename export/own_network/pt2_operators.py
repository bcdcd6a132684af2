"""Operators that a program of ``torch.export`` may call.

PyTorch has operators that map files, read memory that was never written or lies beyond a tensor,
or draw random numbers. So the permitted ones are stated: those that compute tensors from tensors.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.nn import functional as F

from segmaformer.ops import library  # noqa: F401 -- registers the scan
from segmaformer.runtime.errors import InputError

_WORDS: Final = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _assert_scalar _conj _local_scalar_dense _log_softmax
_native_batch_norm_legit_no_training _prelu_kernel _softmax _to_copy _unsafe_view
abs acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm alias all amax amin any
arange argmax argmin argsort asin asinh atan atan2 atanh atleast_1d avg_pool1d avg_pool2d
avg_pool3d baddbmm batch_norm bilinear bitwise_and bitwise_not bitwise_or bitwise_xor bmm
broadcast_tensors broadcast_to bucketize cat ceil celu chunk clamp clamp_max clamp_min clone
concat concatenate constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d convolution copy cos cosh cross cummax cummin cumprod cumsum
deg2rad detach diag diagonal diff div divide dot dropout einsum elu embedding eq erf erfc exp
exp2 expand expand_as expm1 eye feature_alpha_dropout feature_dropout fft_irfftn fft_rfftn fill
flatten flip floor floor_divide fmod frac full full_like gather ge gelu glu greater
greater_equal grid_sampler grid_sampler_2d grid_sampler_3d group_norm gt hardshrink hardsigmoid
hardswish hardtanh index index_add index_copy index_fill index_put index_select instance_norm
isfinite isinf isnan item kthvalue layer_norm le leaky_relu lerp less less_equal lift_fresh
lift_fresh_copy linalg_matrix_norm linalg_norm linalg_vector_norm linear linspace log log10
log1p log2 log_sigmoid log_softmax logaddexp logical_and logical_not logical_or logical_xor
logit logsumexp lt masked_fill masked_select matmul max max_pool1d max_pool2d
max_pool2d_with_indices max_pool3d max_pool3d_with_indices maximum mean median meshgrid min
minimum mish mm moveaxis movedim mul multiply mv narrow native_batch_norm native_dropout
native_group_norm native_layer_norm ne neg new_full new_ones new_zeros nonzero norm not_equal
numpy_T one_hot ones ones_like outer pad permute pixel_shuffle pixel_unshuffle pow prelu prod
rad2deg reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 remainder
repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape
reshape_as resolve_conj resolve_neg rms_norm roll rot90 round rsqrt rsub scalar_tensor
scaled_dot_product_attention scatter scatter_add scatter_reduce select select_scatter selu
sigmoid sign silu sin sinc sinh slice slice_scatter softmax softplus softshrink sort split
split_with_sizes sqrt square squeeze stack std std_mean sub subtract sum swapaxes sym_numel
sym_size t tan tanh tensor_split threshold tile to topk transpose tril triu true_divide trunc
type_as unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_trilinear3d var var_mean view view_as view_as_complex view_as_real
where zero zeros zeros_like
"""
_ATEN: Final = frozenset(_WORDS.split())
"""Names in PyTorch's own library, of any overload; those with ``_`` behind work in place."""

_OTHERS: Final[dict[str, Callable[..., Any]]] = {
    "torch.ops.aten.conv3d.default": F.conv3d,  # what the reference in float64 computes in parts
    "torch.ops.aten._unsafe_index.Tensor": torch.ops.aten.index.Tensor,  # checks its bounds
    "torch.ops.segmaformer.selective_scan.default": torch.ops.segmaformer.selective_scan.default,
    "_operator.add": operator.add,
    "_operator.and_": operator.and_,
    "_operator.eq": operator.eq,
    "_operator.floordiv": operator.floordiv,
    "_operator.ge": operator.ge,
    "_operator.gt": operator.gt,
    "_operator.le": operator.le,
    "_operator.lt": operator.lt,
    "_operator.mod": operator.mod,
    "_operator.mul": operator.mul,
    "_operator.ne": operator.ne,
    "_operator.neg": operator.neg,
    "_operator.or_": operator.or_,
    "_operator.sub": operator.sub,
    "_operator.truediv": operator.truediv,
    "math.trunc": math.trunc,
    "torch.sym_float": torch.sym_float,
    "torch.sym_int": torch.sym_int,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
}

_TARGET: Final = re.compile(r"torch\.ops\.aten\.([a-zA-Z0-9_]+)\.([a-zA-Z0-9_]+)")


def find_operator(target: str) -> tuple[Callable[..., Any], Any]:
    """Look an operator up by the name that a program calls it by.

    Returns
    -------
    function
        What computes it.
    schema : torch.FunctionSchema or None
        Its arguments; None where they go by their order alone.

    Raises
    ------
    InputError
        The table does not have it.
    """
    match = _TARGET.fullmatch(target)
    found = _OTHERS.get(target)
    if found is not None:
        return found, _schema(target) if target.startswith("torch.ops.") else None
    writes_into_an_argument = match is not None and re.search(r"(^|_)out$", match[2])
    if match and match[1].removesuffix("_") in _ATEN and not writes_into_an_argument:
        overload = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
        if isinstance(overload, torch._ops.OpOverload):  # noqa: SLF001
            return overload, overload._schema  # noqa: SLF001
    raise InputError(
        f"it calls {target!r:.100}, which is not among the operators that a program may call: "
        "those of PyTorch that compute tensors from tensors and draw no random numbers, and this "
        "project's selective_scan. If your module uses mamba_ssm, export it under "
        "segmaformer.mamba.stand_in()"
    )


def _schema(target: str) -> Any:
    namespace, name, overload = target.removeprefix("torch.ops.").split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)._schema  # noqa: SLF001
