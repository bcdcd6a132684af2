"""Masks of a label map on another grid, by the rule of nnU-Net's cascade.

nnU-Net gives a cascade's second network the first one's labels as one mask for each. It resizes a
label map label by label: the indicator of each is interpolated as an image is, and a voxel takes
the label with the largest value, of equals that of the nearest voxel, or else the smallest. Beyond
the scan's nonzero part, the background is a label of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.pipeline_call import as_json, call
from segmaformer.runtime.bindings.structs import ResizeArgs
from segmaformer.runtime.pipeline.preprocessing import Preprocessed, nonzero_mask, preprocess
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import Preprocessing, PreviousStage, Triple
from segmaformer.runtime.system.interruption import check

_BEYOND = -1

Labels = npt.NDArray[np.unsignedinteger]
Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


def with_masks(
    volume: Volume,
    spec: Preprocessing,
    labels: Labels,
    stage: PreviousStage,
    *,
    threads: int = 0,
) -> Preprocessed:
    """Prepare a scan for a cascade's second network.

    Parameters
    ----------
    volume, spec, threads
        As for :func:`segmaformer.runtime.pipeline.preprocessing.preprocess`.
    labels
        The first network's label map (X, Y, Z) in the order in which `volume` is stored.
    stage
        Labels that become masks, and their resampling.
    """
    prepared = preprocess(volume, spec, masks=len(stage.labels), threads=threads)
    masks = prepared.image[len(spec.channels) :]
    cropped = prepared.reorientation.apply(labels)[prepared.box]
    fill_masks(masks, cropped, nonzero_mask(volume, spec, threads=threads), prepared, stage)
    return prepared


def fill_masks(
    masks: npt.NDArray[np.float32],
    labels: Labels,
    inside: npt.NDArray[np.uint8],
    grid: Preprocessed,
    stage: PreviousStage,
) -> None:
    """Fill masks of labels on the network's grid.

    Beside them, memory holds a few planes.

    Parameters
    ----------
    masks
        Shape (len(stage.labels), D, H, W) of the network's grid, all zero; set to 1 where the label
        map has the label.
    labels
        Label map of shape ``grid.cropped_shape``.
    inside
        Nonzero part of the scan, from
        :func:`segmaformer.runtime.pipeline.preprocessing.nonzero_mask`.
    grid
        Scan on the network's grid.
    stage
        Labels, and their resampling.
    """
    depth, height, width = _taps(labels.shape, masks.shape[1:], grid, stage)
    for z in range(masks.shape[1]):
        check()
        planes = [_signed(labels[i], inside[i]) for i in (depth.low[z], depth.high[z])]
        seen = (planes[0] > 0) | (planes[1] > 0)
        rows = height.reaching(np.logical_or.reduce(seen, axis=1))
        columns = width.reaching(np.logical_or.reduce(seen, axis=0))
        if rows is None or columns is None:
            continue
        taps = depth.part(slice(z, z + 1)), height.part(rows), width.part(columns)
        found = _largest(planes, taps)
        for mask, label in zip(masks, stage.labels, strict=True):
            mask[z, rows, columns] = found == label


@dataclass(frozen=True)
class _Taps:
    """Two voxels of the source for each of the target along an axis, and the nearest one.

    The weights are as scipy.ndimage computes them, whose results decide ties.
    """

    low: Indices
    high: Indices
    near: Weights
    far: Weights
    nearest: Indices

    @classmethod
    def of(cls, length: int, new_length: int, order: int) -> _Taps:
        centre = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
        centre = np.clip(centre, 0, length - 1)
        nearest = np.floor(centre + 0.5).astype(np.int64)
        low = np.floor(centre).astype(np.int64) if order else nearest
        near = 1 - (centre - low) if order else np.ones(new_length)
        return cls(low, np.minimum(low + 1, length - 1), near, 1 - near, nearest)

    def part(self, of: slice) -> _Taps:
        return _Taps(self.low[of], self.high[of], self.near[of], self.far[of], self.nearest[of])

    def reaching(self, source: npt.NDArray[np.bool_]) -> slice | None:
        """Return the span of the target that lies between voxels of the source; None if none."""
        (found,) = np.nonzero(source[self.low] | source[self.high])
        return slice(int(found[0]), int(found[-1]) + 1) if len(found) else None


def _taps(
    shape: Triple, new_shape: Triple, grid: Preprocessed, stage: PreviousStage
) -> list[_Taps]:
    separate = np.empty(1, np.int32)
    resize = ResizeArgs(shape, new_shape, grid.scan_spacing_mm, grid.spacing_mm)
    call("sgmf_find_separate_axis", resize, as_json(stage.resampling), separate)
    orders = [stage.resampling.order] * 3
    if separate[0] >= 0:
        orders[separate[0]] = stage.resampling.order_z
    return [_Taps.of(*each) for each in zip(shape, new_shape, orders, strict=True)]


def _signed(labels: Labels, inside: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    plane = labels.astype(np.int32)
    plane[(plane == 0) & (inside == 0)] = _BEYOND
    return plane


def _largest(
    planes: list[npt.NDArray[np.int32]], taps: tuple[_Taps, _Taps, _Taps]
) -> npt.NDArray[np.int32]:
    """Choose the labels of one plane, whose two planes of the source are given."""
    depth, height, width = taps
    corners = [
        (plane[np.ix_(y, x)], across * wy[:, None] * wx)
        for plane, across in zip(planes, (depth.near, depth.far), strict=True)
        for y, wy in ((height.low, height.near), (height.high, height.far))
        for x, wx in ((width.low, width.near), (width.high, width.far))
    ]
    nearest = planes[int(depth.nearest[0] != depth.low[0])][np.ix_(height.nearest, width.nearest)]
    best = np.zeros(nearest.shape)
    of_nearest = np.zeros(nearest.shape)
    chosen = np.zeros(nearest.shape, np.int32)
    for label in np.unique(np.stack([corner for corner, _ in corners])):
        value = np.zeros(nearest.shape)
        for corner, weight in corners:
            value += np.where(corner == label, weight, 0.0)
        chosen[value > best] = label
        np.maximum(best, value, out=best)
        np.copyto(of_nearest, value, where=nearest == label)
    return np.where(of_nearest == best, nearest, chosen)
