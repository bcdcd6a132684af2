"""Running code that asks for CUDA on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class CpuOnly(TorchFunctionMode):
    """Answer every request for a CUDA device with the CPU.

    Published networks call ``.cuda()`` or write ``device="cuda"`` in their constructors and
    forward passes, which fails without a GPU, and with one mixes devices during the export.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch with CPU devices alone."""
        if function is torch.Tensor.cuda:
            return args[0]
        named = {key: _on_cpu(value) for key, value in (kwargs or {}).items()}
        return function(*map(_on_cpu, args), **named)


def _on_cpu(argument: Any) -> Any:
    """Replace a CUDA device, or the name of one."""
    if isinstance(argument, torch.device):
        return torch.device("cpu") if argument.type == "cuda" else argument
    if isinstance(argument, str) and argument.partition(":")[0] == "cuda":
        return "cpu"
    return argument
