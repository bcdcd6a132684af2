"""Python functions that native code calls, and the memory that it shows to them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.errors import BackendError


class Callbacks:
    """Turns functions into callbacks, and keeps what they raise for the caller of native code."""

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
        """Raise what the first of them to fail raised, and forget it."""
        if not self._raised:
            raise BackendError("a callback of the native pipeline did not come to its end")
        first = self._raised.pop(0)
        self._raised.clear()
        try:
            raise first
        finally:
            # Its traceback holds this frame: without an end to that, all of it would stay.
            del first


def array_at(address: int, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    """View numbers in memory of the native pipeline, in C order."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    content = (ctypes.c_byte * size).from_address(address)
    return np.ctypeslib.as_array(content).view(dtype).reshape(shape)
