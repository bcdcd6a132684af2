"""PyTorch's own tracing of networks, out of sight of coverage."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def untraced() -> Iterator[None]:
    """Switch coverage off for a block that runs other people's Python, which it slows most."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def hide_tracing(patch: pytest.MonkeyPatch) -> None:
    """Switch coverage off while PyTorch traces a network, if PyTorch is imported at all."""
    torch = sys.modules.get("torch")
    if torch is not None:
        for module in (torch.export, torch.onnx):
            patch.setattr(module, "export", _untraced(module.export))


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        with untraced():
            return function(*args, **options)

    return run
