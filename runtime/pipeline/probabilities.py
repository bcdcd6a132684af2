"""Probabilities of labels at every voxel, from logits on another grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.logit_lines import AxisTaps, LogitLines, Logits
from segmaformer.runtime.spec import Label, Output, Region

_ROWS_BYTES = 4 << 20


def label_channel(output: Output, label: str) -> int:
    """Return the channel of the logits for a label's name, or for its value if no name fits.

    Raises
    ------
    ValueError
        The package has no such label.
    """
    named: Sequence[Label | Region] = output.regions or output.labels
    for keys in ([entry.name for entry in named], [str(entry.value) for entry in named]):
        if label in keys:
            return keys.index(label)
    known = ", ".join(entry.name for entry in named)
    raise ValueError(f"the package has no label {label!r}; it has {known}")


def outside_crop(output: Output, channel: int) -> float:
    """Return the probability of a channel outside the crop, which is background.

    For labels it is 1 for background and 0 for the others, so that they sum to 1; for regions it is
    0, since background is none of them.
    """
    return float(not output.regions and output.labels[channel].value == 0)


def resample_probabilities(
    logits: LogitLines,
    taps: Sequence[AxisTaps],
    channels: Sequence[int],
    *,
    exclusive: bool,
    activated: bool = False,
) -> npt.NDArray[np.float32]:
    """Compute probabilities of some channels on another grid.

    Parameters
    ----------
    logits
        Lines of logits (K, d, h, w), float32.
    taps
        Interpolation for each axis of the target.
    channels
        Channels whose probabilities to compute.
    exclusive
        True for labels, of which each voxel has one (softmax over channels); False for
        regions, which may overlap (sigmoid).
    activated
        Whether the native pipeline made them probabilities already, those of regions less a half.

    Returns
    -------
    ndarray
        Shape (len(channels), d, h, w) of the target, float32, from 0 to 1. Logits are interpolated
        first, then become probabilities, as in nnU-Net, unless they are `activated`. A few rows
        are computed at a time.
    """
    depth, height, width = taps
    maps = np.empty([len(channels), *(len(axis) for axis in taps)], np.float32)
    rows = max(1, _ROWS_BYTES // (4 * logits.memory.shape[1] * max(1, len(width))))
    for z in range(len(depth)):
        low, high = (logits.plane(int(neighbour[z])) for neighbour in (depth.low, depth.high))
        plane = _mix(low, high, np.float32(depth.weight[z]))
        for start in range(0, len(height), rows):
            part = height.part(start, min(start + rows, len(height)), 0)
            values = _between(_between(plane, part, 1), width, 2)
            maps[:, z, start : start + rows] = (
                values[list(channels)] + np.float32(0 if exclusive else 0.5)
                if activated
                else to_probabilities(values, channels, exclusive=exclusive)
            )
    return maps


def _between(values: Logits, taps: AxisTaps, axis: int) -> Logits:
    shape = [1] * values.ndim
    shape[axis] = len(taps)
    weight = taps.weight.astype(np.float32).reshape(shape)
    return _mix(values.take(taps.low, axis), values.take(taps.high, axis), weight)


def _mix(low: Logits, high: Logits, weight: npt.NDArray[np.float32] | np.float32) -> Logits:
    mixed: Logits = (np.float32(1) - weight) * low + weight * high
    return mixed


def to_probabilities(
    logits: Logits, channels: Sequence[int], *, exclusive: bool
) -> npt.NDArray[np.float32]:
    """Compute probabilities (len(channels), ...), float32, on the logits' own grid.

    Parameters are those of :func:`resample_probabilities`, but for `logits` (K, ...).
    """
    if not exclusive:
        with np.errstate(over="ignore"):  # a logit below -88 has probability 0
            sigmoid: npt.NDArray[np.float32] = np.reciprocal(1 + np.exp(-logits[list(channels)]))
        return sigmoid
    weights = np.exp(logits - logits.max(axis=0))
    softmax: npt.NDArray[np.float32] = weights[list(channels)] / weights.sum(axis=0)
    return softmax
