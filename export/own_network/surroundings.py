"""Surroundings of a user's code while it is built, run and traced here."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from segmaformer.checkpoint.fields import listing
from segmaformer.export.user_line import is_users_code, user_line
from segmaformer.mamba import stand_in


@dataclass
class Surroundings:
    """A machine without CUDA, and what code asked of it.

    Published networks call ``.cuda()`` or write ``device="cuda"`` in their constructors and
    forward passes, which fails without a GPU, and with one mixes devices during the export. So the
    CPU answers. ``mamba_ssm`` and ``causal_conv1d`` are this project's own, and what is printed
    goes to standard error.

    Attributes
    ----------
    cuda_available
        Answer to ``torch.cuda.is_available()``.
    asked_for_cuda, printed
        Whether code asked for a CUDA device, or if there is one, and whether it printed.
    missing
        Names of mamba_ssm that it asked for and that the stand-in does not have.
    """

    cuda_available: bool = False
    asked_for_cuda: bool = False
    printed: bool = False
    missing: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Run code in these surroundings."""
        real = torch.cuda.is_available
        torch.cuda.is_available = self._is_available
        try:
            with (
                stand_in() as missing,
                _CpuOnly(self),
                contextlib.redirect_stdout(_StandardError(self)),
            ):
                self.missing = missing
                yield
        finally:
            torch.cuda.is_available = real

    def explain(self, error: BaseException) -> str:
        """Describe what code of the user's raised, where, and what to do about it."""
        text = f"{type(error).__name__}: {error}{user_line(error)}"
        if "cuda" in str(error).lower():
            text += (
                ". The export runs on the CPU: let the code take the device of its input, and do "
                "what needs CUDA only where torch.cuda.is_available() says so"
            )
        if self.missing:
            names = listing(self.missing)
            text += f". It asks for {names}, which this project's stand-in does not have"
        return text

    def _is_available(self) -> bool:
        self.asked_for_cuda |= is_users_code(sys._getframe(1))  # noqa: SLF001
        return self.cuda_available


class _CpuOnly(TorchFunctionMode):
    """Answer every request for a CUDA device with the CPU."""

    def __init__(self, surroundings: Surroundings):
        super().__init__()
        self._surroundings = surroundings

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch with CPU devices alone."""
        if function is torch.Tensor.cuda:
            self._surroundings.asked_for_cuda = True
            return args[0]
        named = {key: self._on_cpu(value) for key, value in (kwargs or {}).items()}
        return function(*map(self._on_cpu, args), **named)

    def _on_cpu(self, argument: Any) -> Any:
        """Replace a CUDA device, or the name of one."""
        kind = argument.type if isinstance(argument, torch.device) else argument
        if not isinstance(kind, str) or kind.partition(":")[0] != "cuda":
            return argument
        self._surroundings.asked_for_cuda = True
        return torch.device("cpu")


class _StandardError(io.TextIOBase):
    """Standard output of the user's code, since the command's own holds its result alone."""

    def __init__(self, surroundings: Surroundings):
        super().__init__()
        self._surroundings = surroundings

    def write(self, text: str) -> int:
        self._surroundings.printed = True
        return sys.stderr.write(text)
