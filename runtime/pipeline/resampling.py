"""Spline resampling of images and logits with nnU-Net v2's results.

nnU-Net resizes with ``skimage.transform.resize(mode="edge", anti_aliasing=False)``: a
spline through voxel centres of the edge-extended image, evaluated at the centres of the
new voxels, clipped to the range of the input. Where voxels are much longer along one
axis, every slice across that axis is resized on its own and the axis follows separately.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.logit_lines import AxisTaps
from segmaformer.runtime.bindings.pipeline_call import as_json, call
from segmaformer.runtime.bindings.structs import ResizeArgs, triple
from segmaformer.runtime.spec import Resampling, Spacing, Triple


def target_shape(shape: Triple, spacing_mm: Spacing, new_spacing_mm: Spacing) -> Triple:
    """Count the voxels that cover the same extent at another spacing, rounded half to even.

    At least one voxel is left along every axis.
    """
    resize = ResizeArgs(shape=shape, spacing_mm=spacing_mm, new_spacing_mm=new_spacing_mm)
    call("sgmf_find_new_shape", resize)
    return triple(resize.new_shape)


def axis_taps(
    shape: Triple,
    new_shape: Triple,
    *,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    resampling: Resampling,
) -> list[AxisTaps] | None:
    """Find the places of a new grid's voxels between those of another, along each axis.

    Parameters are those of :func:`resample`. None if more than two voxels are mixed along an axis.
    """
    resize = ResizeArgs(shape, new_shape, spacing_mm, new_spacing_mm)
    taps = []
    for axis, length in enumerate(new_shape):
        low, high, found = (
            np.zeros(length, np.int64),
            np.zeros(length, np.int64),
            np.zeros(1, np.int32),
        )
        weight = np.zeros(length, np.float64)
        call("sgmf_find_taps", resize, as_json(resampling), axis, low, high, weight, found)
        if not found[0]:
            return None
        taps.append(AxisTaps(low, high, weight))
    return taps


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
        Number of voxels of the result along D, H and W.
    spacing_mm, new_spacing_mm
        Spacing along D, H and W before and after, in mm.
    threads
        Number of threads; 0 uses every available processor.

    Returns
    -------
    ndarray
        Image (C, *shape), float32; `image` itself if it has that shape already.

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
    resize = ResizeArgs(image.shape[1:], shape, spacing_mm, new_spacing_mm)
    dense = np.ascontiguousarray(image, np.float32)
    resized = np.empty((len(image), *shape), np.float32)
    call("sgmf_resize_channels", resize, as_json(resampling), dense, len(image), threads, resized)
    return resized
