"""Intensity normalisation, with the schemes and the order of operations of nnU-Net v2.

Scans hold values beyond a million, which no 16-bit float can carry. So statistics are
accumulated in float64 and intensities are scaled in float32, before any conversion to
the precision of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.cropping import Box, Mask
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.manifest import Normalization, NormalizationScheme

Channel = npt.NDArray[np.float32]
Scale = Callable[[Channel, Box], None]
"""Scales a copy of the voxels inside a box, in place."""

_LEAST_DIVISOR = 1e-8
_CHUNK = 1 << 20


class NormalizedChannel:
    """One channel's intensities, scaled as they are read.

    Only statistics are computed ahead: a scan has no scaled copy.

    Parameters
    ----------
    channel
        Intensities (D, H, W), float32, after cropping and before resampling; unchanged.
    mask
        Where the scan is (D, H, W). Only a z-score with ``use_mask`` looks at it: voxels
        outside then count for nothing and keep their value.

    Raises
    ------
    ValueError
        ``use_mask`` is set and there is no mask, or ``ct`` lacks a parameter.
    InputError
        The scheme is ``rgb01`` and an intensity lies outside 0 to 255.
    """

    def __init__(self, channel: Channel, normalization: Normalization, mask: Mask | None = None):
        self._channel = channel
        self._scale = _SCHEMES[normalization.scheme](channel, normalization, mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        return self._channel.shape

    def __getitem__(self, box: Box) -> Channel:
        """Scaled intensities inside a box: a new array, float32, in C order."""
        values = np.array(self._channel[box], dtype=np.float32, order="C")
        self._scale(values, box)
        return values


def normalize(channel: Channel, normalization: Normalization, mask: Mask | None = None) -> Channel:
    """Scale all of one channel's intensities; see :class:`NormalizedChannel`."""
    everything = slice(None)
    return NormalizedChannel(channel, normalization, mask)[everything, everything, everything]


def _zscore(channel: Channel, normalization: Normalization, mask: Mask | None) -> Scale:
    if not normalization.use_mask:
        return _standardize(*_mean_and_deviation(channel))
    if mask is None:
        raise ValueError("this z-score is taken inside a mask; give the mask of nonzero voxels")
    standardize = _standardize(*_mean_and_deviation(channel, mask))

    def scale(values: Channel, box: Box) -> None:
        inside = values[mask[box]]
        standardize(inside, box)
        values[mask[box]] = inside

    return scale


def _ct(_channel: Channel, normalization: Normalization, _mask: Mask | None) -> Scale:
    n = normalization
    if n.lower is None or n.upper is None or n.mean is None or n.std is None:
        raise ValueError("ct normalisation needs mean, std, lower and upper")
    lower, upper, standardize = n.lower, n.upper, _standardize(n.mean, n.std)

    def scale(values: Channel, box: Box) -> None:
        np.clip(values, lower, upper, out=values)
        standardize(values, box)

    return scale


def _unchanged(_channel: Channel, _normalization: Normalization, _mask: Mask | None) -> Scale:
    return lambda values, box: None


def _rescale01(channel: Channel, _normalization: Normalization, _mask: Mask | None) -> Scale:
    low = channel.min()
    return _standardize(low, float(channel.max() - low))


def _rescale01_slices(channel: Channel, _normalization: Normalization, _mask: Mask | None) -> Scale:
    """Each slice along the first axis to 0..1; a slice of one value to 0."""
    low = channel.min(axis=(1, 2), keepdims=True)
    range_ = channel.max(axis=(1, 2), keepdims=True) - low
    divisor = np.where(range_ > 0, range_, np.float32(1))

    def scale(values: Channel, box: Box) -> None:
        values -= low[box[0]]
        values /= divisor[box[0]]

    return scale


def _rgb01(channel: Channel, _normalization: Normalization, _mask: Mask | None) -> Scale:
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise InputError(
            f"intensities range from {low:g} to {high:g}; the model expects colour channels "
            "from 0 to 255. Check that this is the kind of scan that it was trained on"
        )
    return _standardize(0.0, 255.0)


def _standardize(mean: float | np.float32, deviation: float) -> Scale:
    divisor = max(deviation, _LEAST_DIVISOR)

    def scale(values: Channel, _box: Box) -> None:
        values -= mean
        values /= divisor

    return scale


def _mean_and_deviation(channel: Channel, mask: Mask | None = None) -> tuple[float, float]:
    """Mean and population standard deviation, without a float64 copy of all values."""

    def total(of: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> float:
        return sum(float(of(part.astype(np.float64)).sum()) for part in _parts(channel, mask))

    count = channel.size if mask is None else int(np.count_nonzero(mask))
    if not count:
        return 0.0, 0.0
    mean = total(lambda values: values) / count
    return mean, float(np.sqrt(total(lambda values: np.square(values - mean)) / count))


def _parts(channel: Channel, mask: Mask | None) -> Iterator[Channel]:
    """The channel, or what of it lies inside the mask, a few planes at a time."""
    step = max(1, _CHUNK // max(1, channel[0].size))
    for start in range(0, len(channel), step):
        part = slice(start, start + step)
        yield channel[part] if mask is None else channel[part][mask[part]]


_SCHEMES: dict[NormalizationScheme, Callable[[Channel, Normalization, Mask | None], Scale]] = {
    "zscore": _zscore,
    "ct": _ct,
    "none": _unchanged,
    "rescale01": _rescale01,
    "rescale01_slices": _rescale01_slices,
    "rgb01": _rgb01,
}
