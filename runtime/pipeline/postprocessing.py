"""Postprocessing of a finished label map on the scan's grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.kernel_structs import KeepLargestArgs
from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.spec import KeepLargest, Triple
from segmaformer.runtime.system.interruption import check


def postprocessing_bytes(steps: Sequence[KeepLargest], shape: Triple) -> int:
    """Return the memory that steps take at most beside a label map (X, Y, Z), in bytes."""
    if not steps:
        return 0
    return int(op_library().sgmf_keep_largest_bytes(np.array(shape, np.int64)))


def postprocess(labels: npt.NDArray[Any], steps: Sequence[KeepLargest]) -> None:
    """Apply each step, in order, to a label map (X, Y, Z), uint8 or uint16, in place."""
    for step in steps:
        check()
        values = np.array(step.keep_largest, np.uint16)
        error = op_library().sgmf_keep_largest(
            KeepLargestArgs(
                labels.ctypes.data,
                labels.dtype == np.uint16,
                labels.shape,
                tuple(stride // labels.itemsize for stride in labels.strides),
                values.ctypes.data,
                len(values),
            ),
            1,
        )
        if error:
            raise MemoryError(f"postprocessing: {error.decode()}")
