"""Check of a scan's intensities, from one pass over them and a sample."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from segmaformer.runtime.scans.finding import Finding
from segmaformer.runtime.scans.volume import ROBUST_PERCENTILES, regular_sample
from segmaformer.runtime.spec import Box

MOST_OUTLYING = 1000.0
MOST_LABELS = 256
# Neighbours are equal nearly everywhere in a label map, but only by chance in an image.
LABEL_MAP_EQUALITY = 0.6
_SAMPLE_PLANES = 16


@dataclass(frozen=True)
class ChannelSurvey:
    """Statistics of one channel's intensities.

    Attributes
    ----------
    name
        Name of the channel in messages.
    lowest, highest
        Extremes of all voxels; NaN or infinite if any voxel is.
    sample
        Nonzero voxels at a regular distance, at most about two million.
    low, high
        The 0.5th and 99.5th percentile of the sample.
    negative
        Share of the sample, 0 to 1, that is below zero and not `lowest`, which may be any number
        outside the field of view.
    equal_neighbours
        Share of nonzero voxels, in a sample of planes, that equal the next one, 0 to 1.
    """

    name: str
    lowest: float
    highest: float
    sample: np.ndarray = field(repr=False)
    low: float
    high: float
    negative: float
    equal_neighbours: float

    @property
    def is_finite(self) -> bool:
        """True if every voxel is a finite number."""
        return bool(np.isfinite([self.lowest, self.highest]).all())


@dataclass(frozen=True)
class ScanSurvey:
    """Survey of all channels, and the smallest box (X, Y, Z) outside of which all are zero."""

    channels: tuple[ChannelSurvey, ...]
    box: Box | None


def survey_scan(voxels: np.ndarray) -> ScanSurvey:
    """Survey intensities (C, X, Y, Z), float32; the box is None if every voxel is zero."""
    names = [f"channel {index}" for index in range(1, len(voxels) + 1)]
    if len(voxels) == 1:
        names = ["the scan"]
    channels = (_survey_channel(*pair) for pair in zip(voxels, names, strict=True))
    return ScanSurvey(tuple(channels), _nonzero_box(voxels))


def check_intensities(voxels: np.ndarray, survey: ScanSurvey) -> Iterator[Finding]:
    """Check the channels (C, X, Y, Z), each and together."""
    for channel in survey.channels:
        yield from _check_channel(channel)
    for first, second in itertools.combinations(range(len(voxels)), 2):
        if _are_equal(voxels[first], voxels[second]):
            yield Finding(
                "warn",
                f"channels {first + 1} and {second + 1} are identical; expected different images",
                "Check that each file is given once, in the order of the package's channels.",
            )


def _survey_channel(image: np.ndarray, name: str) -> ChannelSurvey:
    sample = regular_sample(image)
    sample = sample[sample != 0]
    lowest = float(image.min())
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(sample, ROBUST_PERCENTILES) if sample.size else (0.0, 0.0)
    return ChannelSurvey(
        name,
        lowest=lowest,
        highest=float(image.max()),
        sample=sample,
        low=float(low),
        high=float(high),
        negative=float(np.mean((sample < 0) & (sample > lowest))) if sample.size else 0.0,
        equal_neighbours=_equal_neighbours(image),
    )


def _equal_neighbours(image: np.ndarray) -> float:
    equal = counted = 0
    for z in np.linspace(0, image.shape[2] - 1, _SAMPLE_PLANES).astype(int):
        here, following = image[:-1, :, z], image[1:, :, z]
        inside = here != 0
        equal += int(np.count_nonzero(inside & (here == following)))
        counted += int(np.count_nonzero(inside))
    return equal / counted if counted else 0.0


def _nonzero_box(voxels: np.ndarray) -> Box | None:
    _, x, y, z = voxels.shape
    occupied = np.zeros(x, bool), np.zeros(y, bool), np.zeros(z, bool)
    for index in range(z):
        plane = (voxels[..., index] != 0).any(axis=0)
        occupied[0][:] |= plane.any(axis=1)
        occupied[1][:] |= plane.any(axis=0)
        occupied[2][index] = plane.any()
    if not occupied[2].any():
        return None
    first, second, third = (
        slice(int(axis.argmax()), len(axis) - int(axis[::-1].argmax())) for axis in occupied
    )
    return first, second, third


def _check_channel(channel: ChannelSurvey) -> Iterator[Finding]:
    if channel.low == channel.high:
        yield Finding(
            "warn",
            f"{channel.name} has practically one intensity, {channel.low:g}, wherever it is not "
            "zero; expected an image",
            "Check that this is no mask, and that conversion has not clipped the scan.",
        )
    elif _is_like_label_map(channel):
        yield Finding(
            "warn",
            f"{channel.name} has only {len(np.unique(channel.sample))} different whole numbers, in "
            "areas of one value; it looks like a label map",
            "Give the image itself, not a segmentation of it.",
        )
    spread = channel.high - channel.low
    beyond = max(channel.highest - channel.high, channel.low - channel.lowest)
    if spread > 0 and beyond > MOST_OUTLYING * spread:
        yield Finding(
            "warn",
            f"{channel.name} ranges from {channel.lowest:g} to {channel.highest:g}, although 99 % "
            f"of it lie between {channel.low:g} and {channel.high:g}; single voxels decide how "
            "intensities are scaled",
            "Look at these voxels, and repair the step that made them or clip the scan.",
        )


def _is_like_label_map(channel: ChannelSurvey) -> bool:
    if channel.equal_neighbours < LABEL_MAP_EQUALITY:
        return False
    values = np.unique(channel.sample)
    return len(values) <= MOST_LABELS and bool((values == np.round(values)).all())


def _are_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Compare (X, Y, Z) plane by plane: different images differ in the first."""
    return all(np.array_equal(first[..., z], second[..., z]) for z in range(first.shape[2]))
