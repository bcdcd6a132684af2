"""Spline resampling of images and logits that computes what nnU-Net v2 computes.

nnU-Net resizes with ``skimage.transform.resize(mode="edge", anti_aliasing=False)``: a
spline through voxel centres of the edge-extended image, evaluated at the centres of the
new voxels, clipped to the range of the input. Where voxels are much longer along one
axis, every slice across that axis is resized on its own and the axis follows separately.

A spline resize is linear and separable. So each axis has one sparse matrix, whose columns
are the resized unit impulses, and a resize is a product with three of them: the same
numbers in a small part of the time, and any part of the output can be had from the
corresponding rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from segmaformer.runtime.manifest import Resampling, Spacing, Triple

Values = npt.NDArray[np.float64]

# The influence of a voxel on a spline fades by a factor of about four with each voxel of
# distance and never ends. What is left out here lies far below float32's resolution.
_LEAST_WEIGHT = 1e-12
_PART_VOXELS = 1 << 21
# Spacings that differ by less are the same: headers store them as float32.
_SPACING_TOLERANCE = 1e-6


def target_shape(shape: Triple, spacing_mm: Spacing, new_spacing_mm: Spacing) -> Triple:
    """Count the voxels that cover the same extent at another spacing, rounded half to even.

    At least one voxel is left along every axis.
    """
    depth, height, width = (
        max(1, round(old / new * length))
        for length, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )
    return depth, height, width


def separate_axis(
    spacing_mm: Spacing, new_spacing_mm: Spacing, resampling: Resampling
) -> int | None:
    """Coarse axis that is resampled on its own, or None where all go together.

    It is the axis of the largest spacing, if only one has that. Unless `resampling`
    forces or forbids it, the present spacing decides if it is anisotropic beyond the
    threshold, otherwise the new one.
    """
    if resampling.separate_z is not None:
        return _coarsest_axis(spacing_mm) if resampling.separate_z else None
    for spacing in (spacing_mm, new_spacing_mm):
        if max(spacing) / min(spacing) > resampling.anisotropy_threshold:
            return _coarsest_axis(spacing)
    return None


def resample(
    image: npt.NDArray[np.float32],
    shape: Triple,
    *,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    resampling: Resampling,
) -> npt.NDArray[np.float32]:
    """Resize every channel of `image` to `shape`.

    The spacings only decide whether one axis is treated separately; the grid follows
    from the shapes, whose outer borders coincide.

    Parameters
    ----------
    image
        Intensities or logits (C, D, H, W), float32.
    shape
        Voxels of the result along D, H and W.
    spacing_mm, new_spacing_mm
        Spacing along D, H and W before and after.

    Returns
    -------
    ndarray
        (C, *shape), float32; `image` itself where that is its shape already.

    Raises
    ------
    ValueError
        `image` does not have four axes, a length is below one or a spline order is
        outside 0 to 5.
    """
    if image.ndim != 4 or min(*image.shape, *shape) < 1:
        raise ValueError(f"cannot resample {image.shape} to {shape}; expected (C, D, H, W)")
    if image.shape[1:] == shape:
        return image
    separate = separate_axis(spacing_mm, new_spacing_mm, resampling)
    weights = {
        axis: axis_weights(
            length, new_length, resampling.order_z if axis == separate else resampling.order
        )
        for axis, (length, new_length) in enumerate(zip(image.shape[1:], shape, strict=True))
        if length != new_length
    }
    resized = np.empty((len(image), *shape), np.float32)
    outer = 0 if separate is None else separate
    for source, target in zip(image, resized, strict=True):
        _resize(
            np.moveaxis(source, outer, 0), np.moveaxis(target, outer, 0), weights, outer, separate
        )
    return resized


def axis_weights(length: int, new_length: int, order: int) -> sparse.csr_array:
    """Matrix (new_length, length), float64, that resizes one axis.

    Raises
    ------
    ValueError
        `order` is outside 0 to 5.
    """
    if not 0 <= order <= 5:
        raise ValueError(f"the spline order is {order}; expected 0 to 5")
    if order == 0:
        return _nearest_weights(length, new_length)
    dense = np.stack(
        [
            ndimage.zoom(impulse, new_length / length, order=order, mode="nearest", grid_mode=True)
            for impulse in np.eye(length)
        ],
        axis=1,
    )
    dense[np.abs(dense) < _LEAST_WEIGHT] = 0
    return sparse.csr_array(dense)


def _nearest_weights(length: int, new_length: int) -> sparse.csr_array:
    """One weight of 1 in each row; a centre halfway between two voxels takes the upper one.

    Computed here because compilers may fuse the multiplication and the addition inside
    ``ndimage.zoom``, which decides ties differently on other processors.
    """
    rows = np.arange(new_length)
    centres = length / new_length * (rows + 0.5) - 0.5
    nearest = np.floor(np.clip(centres, 0, length - 1) + 0.5).astype(np.intp)
    return sparse.csr_array((np.ones(new_length), (rows, nearest)), shape=(new_length, length))


def _resize(
    source: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    weights: Mapping[int, sparse.csr_array],
    outer: int,
    separate: int | None,
) -> None:
    """Resize one channel whose `outer` axis comes first: planes, then across them.

    Planes go a few at a time, and so do the columns across them, so that float64 copies
    stay small beside the channel. Values are clipped to the range of what was resized
    together: the channel, or one plane where the outer axis is separate.
    """
    inner = [axis for axis in range(3) if axis != outer]
    planes = np.empty((len(source), *target.shape[1:]))
    for part in _parts(source.shape[0], source[0].size):
        values = source[part].astype(np.float64)
        for axis, at in sorted(zip(inner, (1, 2), strict=True), key=_shrinking_first(weights)):
            if axis in weights:
                values = _apply(weights[axis], values, at)
        planes[part] = values
    across = weights.get(outer)
    if separate is not None:
        low, high = (f(axis=(1, 2), keepdims=True) for f in (source.min, source.max))
        np.clip(planes, low, high, out=planes)
    low, high = source.min(), source.max()
    for part in _parts(target.shape[1], len(source) * target.shape[2]):
        values = planes[:, part] if across is None else _apply(across, planes[:, part], 0)
        target[:, part] = values if separate is not None else np.clip(values, low, high)


def _parts(count: int, voxels_each: int) -> list[slice]:
    """Ranges of about :data:`_PART_VOXELS` voxels."""
    size = max(1, _PART_VOXELS // voxels_each)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _shrinking_first(
    weights: Mapping[int, sparse.csr_array],
) -> Callable[[tuple[int, int]], tuple[bool, int]]:
    """Order of axes: shrink before growing; in both, what is contiguous in memory first."""

    def rank(axis_and_place: tuple[int, int]) -> tuple[bool, int]:
        matrix = weights.get(axis_and_place[0])
        return matrix is not None and matrix.shape[0] > matrix.shape[1], -axis_and_place[1]

    return rank


def _apply(weights: sparse.csr_array, values: Values, axis: int) -> Values:
    moved = np.moveaxis(values, axis, 0)
    product = weights @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


def _coarsest_axis(spacing_mm: Spacing) -> int | None:
    largest = max(spacing_mm)
    axes = [a for a, s in enumerate(spacing_mm) if s > largest * (1 - _SPACING_TOLERANCE)]
    return axes[0] if len(axes) == 1 else None
