"""Registration of ``segmaformer::selective_scan`` with PyTorch.

One operator with several implementations: the native kernel on a CPU, mamba-ssm's
CUDA kernel where it is installed, the step-by-step reference otherwise. The
operator can be traced by ``torch.export`` and has a gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from segmaformer.ops.gradient import selective_scan_backward
from segmaformer.ops.reference import selective_scan_reference
from segmaformer.runtime.bindings.kernel_structs import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    SelectiveScanArgs,
)
from segmaformer.runtime.bindings.op_library import run_selective_scan

Tensor = torch.Tensor
Optional = torch.Tensor | None

_ELEMENT_TYPES = {torch.float32: FLOAT32, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16}


@torch.library.custom_op("segmaformer::selective_scan", mutates_args=())
def scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> Tensor:
    """Run the scan on the device of the tensors."""
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    if u.dtype in _ELEMENT_TYPES:
        if u.is_cuda and (fused := _mamba_ssm_scan()) is not None:
            return _on_cuda(fused, *tensors, delta_softplus, reverse)
        if u.device.type == "cpu":
            return _on_cpu(*tensors, delta_softplus, reverse)
    return selective_scan_reference(*tensors, delta_softplus, reverse)


@scan_op.register_fake
def _(u: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(u, memory_format=torch.contiguous_format)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.delta_softplus, ctx.reverse = inputs[8:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors = list(ctx.saved_tensors)
    along_sequence = (0, 1, 3, 4, 6)  # u, delta, B, C, z
    if ctx.reverse:
        grad = grad.flip(1)
        for index in along_sequence:
            tensors[index] = None if tensors[index] is None else tensors[index].flip(1)
    gradients = list(selective_scan_backward(grad, *tensors, delta_softplus=ctx.delta_softplus))
    if ctx.reverse:
        for index in along_sequence:
            gradient = gradients[index]
            gradients[index] = None if gradient is None else gradient.flip(1)
    return (*gradients, None, None)


scan_op.register_autograd(_backward, setup_context=_save_inputs)


def _on_cpu(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Optional,
    z: Optional,
    delta_bias: Optional,
    delta_softplus: bool,
    reverse: bool,
) -> Tensor:
    dense: dict[str, Optional] = {
        name: None if tensor is None else tensor.to(dtype).contiguous()
        for name, tensor, dtype in (
            ("u", u, u.dtype),
            ("delta", delta, u.dtype),
            ("A", A, torch.float32),
            ("B", B, u.dtype),
            ("C", C, u.dtype),
            ("D", D, torch.float32),
            ("z", z, u.dtype),
            ("delta_bias", delta_bias, torch.float32),
        )
    }
    y = torch.empty(u.shape, dtype=u.dtype)
    args = SelectiveScanArgs(
        element_type=_ELEMENT_TYPES[u.dtype],
        delta_softplus=delta_softplus,
        reverse=reverse,
        batch=u.shape[0],
        length=u.shape[1],
        channels=u.shape[2],
        states=A.shape[1],
        y=y.data_ptr(),
        **{name: None if t is None else t.data_ptr() for name, t in dense.items()},
    )
    run_selective_scan(args, threads=torch.get_num_threads())
    return y


@functools.cache
def _mamba_ssm_scan() -> Callable[..., Any] | None:
    try:
        import selective_scan_cuda  # noqa: F401  (the extension is what mamba-ssm may lack)
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    function: Callable[..., Any] = selective_scan_fn
    return function


def _on_cuda(
    fused: Callable[..., Any],
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Optional,
    z: Optional,
    delta_bias: Optional,
    delta_softplus: bool,
    reverse: bool,
) -> Tensor:
    def channels_first(tensor: Optional) -> Optional:
        if tensor is None:
            return None
        return (tensor.flip(1) if reverse else tensor).transpose(1, 2).contiguous()

    y = fused(
        channels_first(u),
        channels_first(delta),
        A,
        channels_first(B),
        channels_first(C),
        D,
        channels_first(z),
        delta_bias,
        delta_softplus,
    )
    y = y.transpose(1, 2)
    return (y.flip(1) if reverse else y).contiguous()
