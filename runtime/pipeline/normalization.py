"""Intensity normalisation of one channel, as the pipeline does it while it resamples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.pipeline_call import as_json, call
from segmaformer.runtime.spec import Normalization

Channel = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def normalize(channel: Channel, normalization: Normalization, mask: Mask | None = None) -> Channel:
    """Scale one channel's intensities with a scheme of nnU-Net v2.

    Parameters
    ----------
    channel
        Intensities (D, H, W), float32; not changed.
    mask
        Voxels of the scan (D, H, W), bool. Only a z-score with ``use_mask`` uses it: voxels outside
        are ignored and keep their value.

    Returns
    -------
    ndarray
        A new array in C order, float32.

    Raises
    ------
    ValueError
        ``use_mask`` is set, and the mask is missing or has another shape.
    InputError
        The scheme is ``rgb01`` and an intensity lies outside 0 to 255.
    """
    inside = None if mask is None else np.ascontiguousarray(mask, np.bool_)
    if inside is not None and inside.shape != channel.shape:
        raise ValueError(f"the mask has shape {inside.shape}; the channel has {channel.shape}")
    scaled = np.empty(channel.shape, np.float32)
    call(
        "sgmf_normalize",
        channel.ctypes.data,
        np.array(channel.shape, np.int64),
        np.array(channel.strides, np.int64) // channel.itemsize,
        as_json(normalization),
        None if inside is None else inside.ctypes.data,
        0,
        scaled,
    )
    return scaled
