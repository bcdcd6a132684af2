"""Python callbacks for native code, and views of its memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import BackendError


class Callbacks:
    """Wrapper of functions as callbacks, which keeps their errors for the caller of native code."""

    def __init__(self) -> None:
        self._raised: list[BaseException] = []

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
