"""Conversion and compression of label maps for files."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.system.interruption import check

ZLIB, GZIP = zlib.MAX_WBITS, zlib.MAX_WBITS + 16
"""Frame of the compressed bytes, as zlib's window bits."""

_LEVEL = 6


def storable_labels(
    labels: npt.NDArray[np.unsignedinteger[Any]], like: Volume
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Convert labels to uint8, or to uint16 if one exceeds 255, little-endian.

    Parameters
    ----------
    labels
        Labels (X, Y, Z) in the storage order of `like`.

    Raises
    ------
    ValueError
        The shape differs from `like`'s, or a label is above 65535.
    TypeError
        The labels are not unsigned integers.
    """
    if labels.shape != like.shape:
        raise ValueError(f"labels have shape {labels.shape}; the scan has {like.shape}")
    if labels.dtype.kind != "u":
        raise TypeError(f"labels are {labels.dtype}; expected unsigned integers")
    largest = int(labels.max())
    if largest > np.iinfo(np.uint16).max:
        raise ValueError(f"the largest label is {largest}; label maps hold labels up to 65535")
    return labels.astype("<u1" if largest <= np.iinfo(np.uint8).max else "<u2", copy=False)


def deflated_planes(labels: npt.NDArray[np.unsignedinteger[Any]], frame: int) -> Iterator[bytes]:
    """Compress labels (X, Y, Z), X fastest, a plane at a time."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, frame)
    for z in range(labels.shape[2]):
        check()
        yield deflate.compress(labels[:, :, z].tobytes(order="F"))
    yield deflate.flush()
