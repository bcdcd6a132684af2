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
    extent = np.array(shape, np.int64)
    needed = op_library().sgmf_keep_largest_bytes
    return max(
        (int(needed(extent, step.connectivity, step.equals_stay)) for step in steps), default=0
    )


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
                step.connectivity,
                step.components,
                step.equals_stay,
            ),
            1,
        )
        if error:
            raise MemoryError(f"postprocessing: {error.decode()}")
