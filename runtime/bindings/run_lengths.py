"""Decoding of DICOM's RLE."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.op_library import op_library


def decode_run_lengths(data: bytes, count: int, width: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Decode one image.

    Parameters
    ----------
    data
        Its header and segments.
    count, width
        Number of its numbers, and bytes of each.

    Raises
    ------
    ValueError
        The data are damaged; the message says how.
    """
    numbers = np.empty((count, width), np.uint8)
    error = op_library().sgmf_decode_run_lengths(data, len(data), count, width, numbers)
    if error:
        raise ValueError(error.decode())
    return numbers.view(f"<u{width}")[:, 0]
