"""Python callbacks for native code, and views of its memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import BackendError


class Callbacks:
    """Wrapper of functions as callbacks, which keeps their errors for the caller of native code."""

    def __init__(self) -> None:
        self._raised: list[BaseException] = []
        self._after_calls: list[Callable[[], None]] = []

    def guarded(self, function: Callable[..., None]) -> Callable[..., int]:
        """Wrap the function as one that returns 0, or 1 if it raised."""

        def guarded(*args: Any) -> int:
            try:
                function(*args)
            except BaseException as error:
                self._raised.append(error)
                return 1
            return 0

        return guarded

    def after_calls(self, function: Callable[[], None]) -> None:
        """Have `function` called whenever a call of native code that used these has ended."""
        self._after_calls.append(function)

    @contextmanager
    def in_call(self) -> Generator[None, None, None]:
        """Enclose a call of native code that uses these callbacks."""
        self._raised.clear()
        try:
            yield
        finally:
            for function in self._after_calls:
                function()

    def raise_first(self) -> None:
        """Raise the error of the first callback that failed, and forget it."""
        if not self._raised:
            raise BackendError("a callback of the native pipeline did not come to its end")
        first = self._raised.pop(0)
        self._raised.clear()
        try:
            raise first
        finally:
            # Its traceback refers to this frame, which would keep everything alive.
            del first


def array_at(address: int, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    """View numbers in memory of the native pipeline, in C order."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    content = (ctypes.c_byte * size).from_address(address)
    return np.ctypeslib.as_array(content).view(dtype).reshape(shape)
