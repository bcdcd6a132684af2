"""Intensity normalisation, with the schemes and the order of operations of nnU-Net v2.

Scans hold values beyond a million, which no 16-bit float can carry. So statistics are
accumulated in float64 and intensities are scaled in float32, before any conversion to
the precision of a network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.cropping import Mask
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.manifest import Normalization, NormalizationScheme

Channel = npt.NDArray[np.float32]

_LEAST_DIVISOR = 1e-8
_CHUNK = 1 << 20


def normalize(channel: Channel, normalization: Normalization, mask: Mask | None = None) -> Channel:
    """Scale one channel's intensities as `normalization` says.

    Parameters
    ----------
    channel
        Intensities (D, H, W), float32, after cropping and before resampling; unchanged.
    mask
        Where the scan is (D, H, W). Only a z-score with ``use_mask`` looks at it: voxels
        outside then count for nothing and keep their value.

    Returns
    -------
    ndarray
        New array (D, H, W), float32, in C order.

    Raises
    ------
    ValueError
        ``use_mask`` is set and there is no mask, or ``ct`` lacks a parameter.
    InputError
        The scheme is ``rgb01`` and an intensity lies outside 0 to 255.
    """
    image = np.array(channel, dtype=np.float32, order="C")
    return _SCHEMES[normalization.scheme](image, normalization, mask)


def _zscore(image: Channel, normalization: Normalization, mask: Mask | None) -> Channel:
    if not normalization.use_mask:
        return _standardized(image, *_mean_and_deviation(image))
    if mask is None:
        raise ValueError("this z-score is taken inside a mask; give the mask of nonzero voxels")
    inside = image[mask]
    image[mask] = _standardized(inside, *_mean_and_deviation(inside))
    return image


def _ct(image: Channel, normalization: Normalization, _mask: Mask | None) -> Channel:
    n = normalization
    if n.lower is None or n.upper is None or n.mean is None or n.std is None:
        raise ValueError("ct normalisation needs mean, std, lower and upper")
    np.clip(image, n.lower, n.upper, out=image)
    return _standardized(image, n.mean, n.std)


def _unchanged(image: Channel, _normalization: Normalization, _mask: Mask | None) -> Channel:
    return image


def _rescale01(image: Channel, _normalization: Normalization, _mask: Mask | None) -> Channel:
    image -= image.min()
    image /= max(float(image.max()), _LEAST_DIVISOR)
    return image


def _rescale01_slices(image: Channel, _normalization: Normalization, _mask: Mask | None) -> Channel:
    """Each slice along the first axis to 0..1; a slice of one value to 0."""
    image -= image.min(axis=(1, 2), keepdims=True)
    range_ = image.max(axis=(1, 2), keepdims=True)
    image /= np.where(range_ > 0, range_, np.float32(1))
    return image


def _rgb01(image: Channel, _normalization: Normalization, _mask: Mask | None) -> Channel:
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 255:
        raise InputError(
            f"intensities range from {low:g} to {high:g}; the model expects colour channels "
            "from 0 to 255. Check that this is the kind of scan that it was trained on"
        )
    image /= 255.0
    return image


def _standardized(values: Channel, mean: float, deviation: float) -> Channel:
    values -= mean
    values /= max(deviation, _LEAST_DIVISOR)
    return values


def _mean_and_deviation(values: Channel) -> tuple[float, float]:
    """Mean and population standard deviation, without a float64 copy of all values."""
    flat = values.reshape(-1)
    if not flat.size:
        return 0.0, 0.0
    mean = float(flat.mean(dtype=np.float64))
    squares = sum(
        float(np.square(flat[start : start + _CHUNK].astype(np.float64) - mean).sum())
        for start in range(0, flat.size, _CHUNK)
    )
    return mean, float(np.sqrt(squares / flat.size))


_SCHEMES: dict[NormalizationScheme, Callable[[Channel, Normalization, Mask | None], Channel]] = {
    "zscore": _zscore,
    "ct": _ct,
    "none": _unchanged,
    "rescale01": _rescale01,
    "rescale01_slices": _rescale01_slices,
    "rgb01": _rgb01,
}
