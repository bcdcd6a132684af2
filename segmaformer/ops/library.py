"""Registration of ``segmaformer::selective_scan`` with PyTorch.

One operator with several implementations: the native kernel on a CPU, mamba-ssm's
CUDA kernel where it is installed, the step-by-step reference otherwise. The
operator can be traced by ``torch.export`` and has a gradient, native on a CPU too.
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
    SelectiveScanGradientArgs,
)
from segmaformer.runtime.bindings.op_library import (
    run_selective_scan,
    run_selective_scan_gradient,
)

Tensor = torch.Tensor
Optional = torch.Tensor | None
Tensors = tuple[torch.Tensor | None, ...]

_NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")

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


@torch.library.custom_op("segmaformer::selective_scan_gradient", mutates_args=())
def gradient_op(
    grad: Tensor,
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
) -> list[Tensor]:
    """Compute the gradients of the tensors that are there, in their order."""
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    if u.dtype in _ELEMENT_TYPES and u.device.type == "cpu":
        return _gradients_on_cpu(grad, tensors, delta_softplus, reverse)
    gradients = _gradients_by_torch(grad, tensors, delta_softplus, reverse)
    return [gradient for gradient in gradients if gradient is not None]


@gradient_op.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    tensors = (tensor for tensor in inputs[:8] if tensor is not None)
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    given = iter(gradient_op(grad, *tensors, ctx.delta_softplus, ctx.reverse))
    return (*(None if tensor is None else next(given) for tensor in tensors), None, None)


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
    tensors = _dense((u, delta, A, B, C, D, z, delta_bias), u.dtype)
    y = torch.empty(u.shape, dtype=u.dtype)
    args = _scan_args(tensors, delta_softplus, reverse)
    args.y = y.data_ptr()
    run_selective_scan(args, threads=torch.get_num_threads())
    return y


def _dense(tensors: Tensors, element_type: torch.dtype) -> Tensors:
    """Lay tensors out densely; A, D and delta_bias are float32 whatever the element type."""
    types = dict.fromkeys(("A", "D", "delta_bias"), torch.float32)
    return tuple(
        None if tensor is None else tensor.to(types.get(name, element_type)).contiguous()
        for name, tensor in zip(_NAMES, tensors, strict=True)
    )


def _addresses(tensors: Tensors, prefix: str = "") -> dict[str, int | None]:
    return {
        prefix + name: None if tensor is None else tensor.data_ptr()
        for name, tensor in zip(_NAMES, tensors, strict=True)
    }


def _scan_args(tensors: Tensors, delta_softplus: bool, reverse: bool) -> SelectiveScanArgs:
    u, _, A, *_ = tensors
    assert u is not None
    assert A is not None
    return SelectiveScanArgs(
        element_type=_ELEMENT_TYPES[u.dtype],
        delta_softplus=delta_softplus,
        reverse=reverse,
        batch=u.shape[0],
        length=u.shape[1],
        channels=u.shape[2],
        states=A.shape[1],
        **_addresses(tensors),
    )


def _gradients_on_cpu(
    grad: Tensor, tensors: Tensors, delta_softplus: bool, reverse: bool
) -> list[Tensor]:
    dense = _dense(tensors, torch.float32)
    found = tuple(None if tensor is None else torch.empty_like(tensor) for tensor in dense)
    grad_y = grad.float().contiguous()
    args = SelectiveScanGradientArgs(
        scan=_scan_args(dense, delta_softplus, reverse),
        grad_y=grad_y.data_ptr(),
        **_addresses(found, "grad_"),
    )
    run_selective_scan_gradient(args, threads=torch.get_num_threads())
    return [
        gradient.to(tensor.dtype)
        for gradient, tensor in zip(found, tensors, strict=True)
        if gradient is not None and tensor is not None
    ]


def _gradients_by_torch(
    grad: Tensor, tensors: tuple[Any, ...], delta_softplus: bool, reverse: bool
) -> Tensors:
    if not reverse:
        return selective_scan_backward(grad, *tensors, delta_softplus=delta_softplus)
    flipped = _flipped(tensors)
    return _flipped(selective_scan_backward(grad.flip(1), *flipped, delta_softplus=delta_softplus))


def _flipped(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Turn the tensors that have a sequence around."""
    return tuple(
        tensor if tensor is None or tensor.dim() < 3 else tensor.flip(1) for tensor in tensors
    )


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
