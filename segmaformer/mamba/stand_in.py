"""Importing ``mamba_ssm`` and ``causal_conv1d`` where neither is installed, or instead of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.checkpoint.fields import listing
from segmaformer.mamba import functional, kernels, mamba1, mamba2

_PACKAGES = ("mamba_ssm", "causal_conv1d", "selective_scan_cuda", "causal_conv1d_cuda")


class RMSNorm(nn.Module):
    """Root-mean-square norm with the arguments of ``mamba_ssm.ops.triton.layer_norm.RMSNorm``."""

    def __init__(self, hidden_size: int, eps: float = 1e-5, device: Any = None, dtype: Any = None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None = None,
        prenorm: bool = False,
        residual_in_fp32: bool = False,
    ) -> Any:
        """Normalise `x`, (..., hidden_size), after adding `residual`."""
        return rms_norm_fn(
            x,
            self.weight,
            None,
            residual=residual,
            eps=self.eps,
            prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
        )


def layer_norm_fn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None = None,
    eps: float = 1e-6,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
) -> Any:
    """Add the residual, then normalise over the last axis.

    Parameters
    ----------
    x, residual
        Shape (..., C).
    weight, bias
        Shape (C).
    eps
        Added to the variance or the mean square.
    prenorm
        Whether the sum is returned as well.
    residual_in_fp32
        Whether that sum is float32.
    is_rms_norm
        Whether no mean is taken off.

    Returns
    -------
    torch.Tensor or tuple
        Shape (..., C), the type of `x`; with `prenorm` also the sum.
    """
    total = x if residual is None else x + residual
    if is_rms_norm:
        normed = total * (total.square().mean(-1, keepdim=True) + eps).rsqrt() * weight
        normed = normed if bias is None else normed + bias
    else:
        normed = F.layer_norm(total, weight.shape, weight, bias, eps)
    kept = total.float() if residual_in_fp32 else total
    return (normed.to(x.dtype), kept) if prenorm else normed.to(x.dtype)


def rms_norm_fn(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, **options: Any
) -> Any:
    """Call :func:`layer_norm_fn` without taking off the mean."""
    return layer_norm_fn(x, weight, bias, is_rms_norm=True, **options)


_NORMS = {"RMSNorm": RMSNorm, "layer_norm_fn": layer_norm_fn, "rms_norm_fn": rms_norm_fn}
_SCANS = {
    name: getattr(functional, name)
    for name in (
        "selective_scan_fn",
        "mamba_inner_fn",
        "mamba_inner_fn_no_out_proj",
        "bimamba_inner_fn",
    )
}
_MODULES: dict[str, dict[str, Any]] = {
    "mamba_ssm": {
        "Mamba": mamba1.Mamba,
        "Mamba2": mamba2.Mamba2,
        **_SCANS,
        "__version__": "2.2.0",
    },
    "mamba_ssm.modules": {},
    "mamba_ssm.modules.mamba_simple": {"Mamba": mamba1.Mamba},
    "mamba_ssm.modules.mamba2": {"Mamba2": mamba2.Mamba2},
    "mamba_ssm.modules.mamba2_simple": {"Mamba2Simple": mamba2.Mamba2Simple},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": {
        **_SCANS,
        "selective_scan_ref": functional.selective_scan_fn,
    },
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.layernorm": _NORMS,
    "mamba_ssm.ops.triton.layer_norm": _NORMS,
    "mamba_ssm.ops.triton.layernorm_gated": {"RMSNorm": mamba2.RMSNormGated},
    "mamba_ssm.ops.triton.ssd_combined": {"mamba_chunk_scan_combined": mamba2.chunk_scan},
    "mamba_ssm.ops.triton.selective_state_update": {},
    "causal_conv1d": {"causal_conv1d_fn": functional.causal_conv1d_fn, "__version__": "1.4.0"},
    "causal_conv1d.causal_conv1d_interface": {"causal_conv1d_fn": functional.causal_conv1d_fn},
    "selective_scan_cuda": {"fwd": kernels.scan_forward},
    "causal_conv1d_cuda": {"causal_conv1d_fwd": kernels.conv_forward},
}
_ABSENT = {
    "mamba_ssm.ops.triton.selective_state_update": ("selective_state_update",),
    "causal_conv1d": ("causal_conv1d_update",),
    "causal_conv1d.causal_conv1d_interface": ("causal_conv1d_update",),
    "mamba_ssm.ops.triton.ssd_combined": ("mamba_split_conv1d_scan_combined",),
}
"""Names that modules import and inference over whole sequences does not call."""


@contextlib.contextmanager
def stand_in() -> Iterator[list[str]]:
    """Let ``import mamba_ssm`` and ``import causal_conv1d`` find the project's own modules.

    Modules that were imported before are back afterwards. What is imported meanwhile keeps what
    it found.

    Yields
    ------
    list of str
        Names that were asked for and are not there, such as ``mamba_ssm.Mamba_FFT`` of a fork.
        Code often passes over such an import and fails later, far from it.

    Examples
    --------
    >>> with stand_in():
    ...     from mamba_ssm import Mamba
    >>> Mamba.__module__
    'segmaformer.mamba.mamba1'
    """
    before = {name: module for name, module in sys.modules.items() if _is_theirs(name)}
    for name in before:
        del sys.modules[name]
    missing: list[str] = []
    sys.modules.update(_make_modules(missing))
    try:
        yield missing
    finally:
        for name in [name for name in sys.modules if _is_theirs(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_theirs(name: str) -> bool:
    return name.partition(".")[0] in _PACKAGES


def _make_modules(missing: list[str]) -> dict[str, ModuleType]:
    modules = {}
    for name, contents in _MODULES.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        module.__dict__.update({absent: _refusal(absent) for absent in _ABSENT.get(name, ())})
        module.__dict__["__getattr__"] = _recorder(name, missing)
        module.__path__ = []  # so that submodules can be imported
        modules[name] = module
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    return modules


def _recorder(module: str, missing: list[str]) -> Callable[[str], Any]:
    """Make a module's ``__getattr__``, which is called for names that it does not have."""

    def absent(name: str) -> Any:
        full = f"{module}.{name}"
        if not name.startswith("__") and full not in missing:
            missing.append(full)
        raise AttributeError(f"this project's {module} has no {name}")

    return absent


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{name} is not supported: only whole sequences can be scanned")

    return refuse


_BY_NAME = {
    "mamba_ssm.modules.mamba_simple.Mamba": mamba1.Mamba,
    "mamba_ssm.modules.mamba2.Mamba2": mamba2.Mamba2,
    "mamba_ssm.modules.mamba2_simple.Mamba2Simple": mamba2.Mamba2Simple,
    "mamba_ssm.ops.triton.layernorm_gated.RMSNorm": mamba2.RMSNormGated,
    "mamba_ssm.ops.triton.layernorm.RMSNorm": RMSNorm,
    "mamba_ssm.ops.triton.layer_norm.RMSNorm": RMSNorm,
}


def convert(module: nn.Module) -> int:
    """Let layers that were built with the real package compute with the project's scan.

    The layers stay the objects they are, with their parameters; only their class changes.

    Parameters
    ----------
    module
        A network, changed in place.

    Returns
    -------
    int
        Number of layers changed.

    Raises
    ------
    NotImplementedError
        A layer of a fork or with options that the project's layers do not have; nothing is changed.
    """
    found = []
    for name, layer in module.named_modules():
        kind = type(layer)
        replacement = _BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")
        if replacement is None:
            continue
        if complaint := _not_honoured(layer, replacement):
            raise NotImplementedError(f"the {kind.__name__} layer {name!r} {complaint}")
        found.append((layer, replacement))
    for layer, replacement in found:
        layer.__class__ = replacement
        if isinstance(layer, mamba2.Mamba2Simple):
            layer.complete()
    return len(found)


_TOLD: dict[type[nn.Module], tuple[str, ...]] = {
    mamba1.Mamba: ("bimamba_type", "nslices", "use_fast_path"),
    mamba2.Mamba2: ("headdim", "d_ssm", "ngroups", "expand", "process_group"),
    mamba2.Mamba2Simple: ("headdim", "ngroups", "expand", "activation"),
}
"""Attributes of the real layers that decide which parameters the project's have."""


def _not_honoured(layer: Any, replacement: type[nn.Module]) -> str | None:
    """Say what a layer of the real package, or of a fork, has that its replacement would drop."""
    known = {"weight"}  # of norms
    if replacement in _TOLD:
        options = {key: getattr(layer, key) for key in _TOLD[replacement] if hasattr(layer, key)}
        try:
            twin = replacement(layer.d_model, bias=True, device="meta", **options)
        except NotImplementedError as error:
            return f"cannot be converted: {error}"
        known = {name for name, _ in twin.named_parameters()}
    surplus = [name for name, _ in layer.named_parameters() if name not in known]
    if surplus:
        return f"has {listing(surplus)}, which this project's layer does not have"
    return None
