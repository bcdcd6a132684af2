"""The part of Triton's Python backend that the model uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np


class Tensor:
    """Tensor that only DLPack reads, as NumPy 2 reads those of Triton 2.51."""

    def __init__(self, name: str, values: np.ndarray):
        self.name, self._values = name, values

    def __dlpack__(self) -> Any:  # without the arguments of later versions, as in Triton
        return self._values.__dlpack__()

    def __dlpack_device__(self) -> tuple[Any, ...]:
        return self._values.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, values: np.ndarray) -> Tensor:
        return Tensor(name, np.from_dlpack(values))


class TritonError:
    CANCELLED, INVALID_ARG, INTERNAL = "cancelled", "invalid", "internal"

    def __init__(self, message: str, code: str):
        self.message, self.code = message, code


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


@dataclass
class Request:
    tensors: dict[str, np.ndarray]
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        return self.cancelled


def triton_module() -> Any:
    """Return the stand-in of ``triton_python_backend_utils``; its log is the list ``lines``."""
    lines: list[str] = []
    return SimpleNamespace(
        InferenceResponse=InferenceResponse,
        Logger=SimpleNamespace(log_info=lines.append, log_warn=lines.append),
        Tensor=Tensor,
        TritonError=TritonError,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request.tensors[name]),
        lines=lines,
    )
