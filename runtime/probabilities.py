"""The probability of one label at every voxel, from logits on another grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.label_kernels import AxisTaps, Logits
from segmaformer.runtime.manifest import Label, Output, Region

_ROW_BYTES = 32 << 20


def label_channel(output: Output, label: str) -> int:
    """Channel of the logits that a label's name or value stands for.

    Raises
    ------
    ValueError
        The package has no such label.
    """
    named: Sequence[Label | Region] = output.regions or output.labels
    for channel, entry in enumerate(named):
        if label in (entry.name, str(entry.value)):
            return channel
    known = ", ".join(entry.name for entry in named)
    raise ValueError(f"the package has no label {label!r}; it has {known}")


def resample_probability(
    logits: Logits, taps: Sequence[AxisTaps], channel: int, *, exclusive: bool
) -> npt.NDArray[np.float32]:
    """Probability of one channel on another grid.

    Parameters
    ----------
    logits
        Shape (K, d, h, w), float32.
    taps
        One for each axis of the target.
    channel
        Which channel's probability.
    exclusive
        True for labels, of which each voxel has one (softmax over channels); False for
        regions, which may overlap (sigmoid).

    Returns
    -------
    ndarray
        float32, with the length of each of `taps`. Logits are interpolated first, then
        become probabilities, as in nnU-Net. A few rows are computed at a time.
    """
    probability = np.empty([len(axis) for axis in taps], np.float32)
    used = logits if exclusive else logits[channel : channel + 1]
    chosen = channel if exclusive else 0
    depth, height, width = taps
    rows = max(1, _ROW_BYTES // (4 * len(used) * len(width)))
    for z in range(len(depth)):
        plane = _between(used, depth.part(z, z + 1, 0), 1)[:, 0]
        for start in range(0, len(height), rows):
            part = height.part(start, min(start + rows, len(height)), 0)
            values = _between(_between(plane, part, 1), width, 2)
            probability[z, start : start + rows] = to_probability(
                values, chosen, exclusive=exclusive
            )
    return probability


def _between(values: Logits, taps: AxisTaps, axis: int) -> Logits:
    shape = [1] * values.ndim
    shape[axis] = len(taps)
    weight = taps.weight.astype(np.float32).reshape(shape)
    mixed: Logits = (1 - weight) * values.take(taps.low, axis) + weight * values.take(
        taps.high, axis
    )
    return mixed


def to_probability(logits: Logits, channel: int, *, exclusive: bool) -> npt.NDArray[np.float32]:
    """Probability of one channel where the logits are; see :func:`resample_probability`."""
    if not exclusive:
        sigmoid: npt.NDArray[np.float32] = 1 / (1 + np.exp(-logits[channel]))
        return sigmoid
    weights = np.exp(logits - logits.max(axis=0))
    softmax: npt.NDArray[np.float32] = weights[channel] / weights.sum(axis=0)
    return softmax
