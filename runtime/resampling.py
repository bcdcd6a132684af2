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

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from segmaformer.runtime.axis_kernel import AxisOperator
from segmaformer.runtime.channel_resize import ChannelResize
from segmaformer.runtime.manifest import Resampling, Spacing, Triple

# The influence of a voxel on a spline fades by a factor of about four with each voxel of
# distance and never ends. What is left out here lies far below float32's resolution.
_LEAST_WEIGHT = 1e-12
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
    threads: int = 0,
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
    threads
        Threads to use; 0 takes every available processor.

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
    _, depth, height, width = image.shape
    resize = channel_resize(
        (depth, height, width),
        shape,
        spacing_mm=spacing_mm,
        new_spacing_mm=new_spacing_mm,
        resampling=resampling,
        threads=threads,
    )
    resized = np.empty((len(image), *shape), np.float32)
    for source, target in zip(image, resized, strict=True):
        resize.run(source, target)
    return resized


def channel_resize(
    shape: Triple,
    new_shape: Triple,
    *,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    resampling: Resampling,
    threads: int = 0,
) -> ChannelResize:
    """Resize of single channels from `shape` to `new_shape`, as :func:`resample` does it."""
    separate = separate_axis(spacing_mm, new_spacing_mm, resampling)
    orders = [resampling.order_z if axis == separate else resampling.order for axis in range(3)]
    operators = tuple(
        None
        if length == new_length
        else AxisOperator.from_matrix(axis_weights(length, new_length, order))
        for length, new_length, order in zip(shape, new_shape, orders, strict=True)
    )
    return ChannelResize(operators, separate, threads)


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


def _coarsest_axis(spacing_mm: Spacing) -> int | None:
    largest = max(spacing_mm)
    axes = [a for a, s in enumerate(spacing_mm) if s > largest * (1 - _SPACING_TOLERANCE)]
    return axes[0] if len(axes) == 1 else None
